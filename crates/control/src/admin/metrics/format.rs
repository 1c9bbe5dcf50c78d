//! The two forms of the exposition format: OpenMetrics 1.0 as it is encoded, and Prometheus' text format 0.0.4 made of it.

use axum::http::{HeaderMap, header};

/// OpenMetrics.
pub(super) const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Prometheus' own.
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the client takes OpenMetrics, and does not like Prometheus' own form better.
pub(super) fn wants_open(headers: &HeaderMap) -> bool {
    let mut open = 0;
    let mut plain = 0;
    for accept in headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).and_then(thousandths).unwrap_or(1000);
            match kind {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" => plain = plain.max(quality),
                _ => {}
            }
        }
    }
    open > 0 && open >= plain
}

/// A quality of HTTP, `0.5`, in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: u32 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    Some(whole.parse::<u32>().ok()?.min(1) * 1000 + part)
}

/// Prometheus' own form of an OpenMetrics text: there a counter's name has its suffix in the lines about it, too.
pub(super) fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + open.len() / 16);
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                out.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        wants_open(&headers)
    }

    #[test]
    fn what_the_client_likes_better_is_sent() {
        assert!(wants(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
        ));
        assert!(!wants("application/openmetrics-text;q=0.2,text/plain;q=0.3"));
        assert!(!wants("*/*") && !wants("application/openmetrics-text;q=0"));
        assert!(!wants_open(&HeaderMap::new()));
    }

    #[test]
    fn names_of_counters_get_their_suffix() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"y\"} 3\n# HELP c D.\n# TYPE c gauge\nc 1\n# EOF\n";
        let text = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 3\n# HELP c D.\n# TYPE c gauge\nc 1\n";
        assert_eq!(plain(open), text);
    }
}

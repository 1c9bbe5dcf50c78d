//! Where telemetry goes: `--otlp`, and the variables that OpenTelemetry names.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use crate::failure::{Failure, Kind};

/// How long a collector may take to answer, unless a variable says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How a collector is named.
const EXAMPLE: &str = "write http://HOST:PORT, such as http://127.0.0.1:4318";
/// How often what has come together is sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where to, and what about the sender.
#[derive(Clone, Debug)]
pub(crate) struct OtlpSettings {
    pub(super) traces: Uri,
    pub(super) logs: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
}

fn bad(what: impl std::fmt::Display, hint: &str) -> Failure {
    Failure::new(Kind::BadInput, what, hint)
}

fn uri(text: &str, named: &str) -> Result<Uri, Failure> {
    let parsed: Uri =
        text.parse().map_err(|error| bad(format_args!("{named}: `{text}`: {error}"), EXAMPLE))?;
    match parsed.scheme_str() {
        Some("http") if parsed.authority().is_some() => Ok(parsed),
        Some("https") => Err(bad(
            format_args!("{named}: this node speaks OTLP without TLS, not to `{text}`"),
            "run a collector on this machine, and have it send the telemetry on",
        )),
        _ => Err(bad(format_args!("{named}: `{text}` is no URL"), EXAMPLE)),
    }
}

impl OtlpSettings {
    /// From the option and from `variable`; `None` if nothing names a collector.
    pub(crate) fn read(
        option: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<OtlpSettings>, Failure> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = option.map(str::to_owned).or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let own = |signal: &str| variable(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"));
        let to = |signal: &str, path: &str| -> Result<Option<Uri>, Failure> {
            // The option says more than a variable; a variable for one signal is used as it is.
            match (option, own(signal), &base) {
                (None, Some(own), _) => uri(&own, "OTEL_EXPORTER_OTLP_…_ENDPOINT").map(Some),
                (_, _, Some(base)) => {
                    uri(&format!("{}{path}", base.trim_end_matches('/')), "--otlp").map(Some)
                }
                (..) => Ok(None),
            }
        };
        let (traces, logs) = match (to("TRACES", "/v1/traces")?, to("LOGS", "/v1/logs")?) {
            (Some(traces), Some(logs)) => (traces, logs),
            (None, None) => return Ok(None),
            _ => {
                return Err(bad(
                    "only one of traces and logs has an endpoint",
                    "set OTEL_EXPORTER_OTLP_ENDPOINT for both",
                ));
            }
        };
        if let Some(protocol) =
            variable("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|found| found != "http/protobuf")
        {
            return Err(bad(
                format_args!("OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: this node speaks http/protobuf"),
                "unset it, and name the collector's port for HTTP, 4318 by custom",
            ));
        }
        let mut headers = Vec::new();
        for (name, value) in pairs(variable("OTEL_EXPORTER_OTLP_HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS")? {
            let header = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
            headers.push(header.ok_or_else(|| {
                bad(format_args!("OTEL_EXPORTER_OTLP_HEADERS: `{name}` is no header"), "write NAME=VALUE,…")
            })?);
        }
        let mut resource = pairs(variable("OTEL_RESOURCE_ATTRIBUTES"), "OTEL_RESOURCE_ATTRIBUTES")?;
        if let Some(name) = variable("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        }
        if !resource.iter().any(|(key, _)| key == "service.name") {
            resource.push(("service.name".to_owned(), "baton".to_owned()));
        }
        let millis = |name: &str, default| match variable(name) {
            None => Ok(default),
            Some(text) => match text.parse::<u64>() {
                Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
                _ => Err(bad(format_args!("{name}: `{text}` is no number of milliseconds"), "")),
            },
        };
        let timeout = millis("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT)?;
        let interval = millis("OTEL_BSP_SCHEDULE_DELAY", INTERVAL)?;
        Ok(Some(OtlpSettings { traces, logs, headers, resource, timeout, interval }))
    }
}

/// `KEY=VALUE,…`, values percent-encoded as in W3C's baggage.
fn pairs(text: Option<String>, named: &str) -> Result<Vec<(String, String)>, Failure> {
    let text = text.unwrap_or_default();
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        Some((key.trim().to_owned(), unescaped(value.trim())?))
    };
    parts
        .map(|part| pair(part).ok_or_else(|| bad(format_args!("{named}: `{part}` is no KEY=VALUE"), "")))
        .collect()
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let two = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&two).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Of a million requests that come without a trace, how many begin one: `--trace-sample`, else OpenTelemetry's variables, else 1 %.
pub(crate) fn traces_ppm(
    option: Option<u32>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<u32, Failure> {
    if let Some(ppm) = option {
        return Ok(ppm);
    }
    let ratio = || match variable("OTEL_TRACES_SAMPLER_ARG") {
        None => Ok(ALL_PPM),
        Some(text) => sample(&text).map_err(|why| bad(format_args!("OTEL_TRACES_SAMPLER_ARG: {why}"), "")),
    };
    match variable("OTEL_TRACES_SAMPLER").as_deref() {
        None | Some("") => Ok(DEFAULT_PPM),
        Some("always_on" | "parentbased_always_on") => Ok(ALL_PPM),
        Some("always_off" | "parentbased_always_off") => Ok(0),
        Some("traceidratio" | "parentbased_traceidratio") => ratio(),
        Some(other) => Err(bad(
            format_args!("OTEL_TRACES_SAMPLER={other} is not known"),
            "one of always_on, always_off, traceidratio, parentbased_traceidratio; or use --trace-sample",
        )),
    }
}

const ALL_PPM: u32 = 1_000_000;
const DEFAULT_PPM: u32 = 10_000;

/// A share of requests, as `1%` or `0.01`, in parts of a million.
pub(crate) fn sample(text: &str) -> Result<u32, String> {
    let (digits, scale) = match text.strip_suffix('%') {
        Some(digits) => (digits, 10_000.0),
        None => (text, 1_000_000.0),
    };
    let share: f64 =
        digits.trim().parse().map_err(|_| format!("`{text}` is no share, such as 1% or 0.01"))?;
    let ppm = share * scale;
    if !(0.0..=1_000_000.0).contains(&ppm) {
        return Err(format!("`{text}` is not between 0% and 100%"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    Ok(ppm.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: Option<&str>, set: &[(&str, &str)]) -> Result<Option<OtlpSettings>, Failure> {
        OtlpSettings::read(option, |name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_option_wins_and_variables_are_honoured() {
        assert!(read(None, &[]).unwrap().is_none());
        let from = |option, set: &[_]| read(option, set).unwrap().unwrap();
        let base = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")];
        assert_eq!(from(None, &base).traces.to_string(), "http://collector:4318/v1/traces");
        assert_eq!(from(Some("http://127.0.0.1:1"), &base).logs.to_string(), "http://127.0.0.1:1/v1/logs");
        let own = [base[0], ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x")];
        assert_eq!(from(None, &own).traces.to_string(), "http://t:1/x");
        let said = [
            base[0],
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,zone=a"),
            ("OTEL_SERVICE_NAME", "shop"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ];
        let said = from(None, &said);
        assert_eq!(said.headers[0].1, "Basic abc");
        assert_eq!(said.timeout, Duration::from_millis(1500));
        assert!(said.resource.contains(&("service.name".to_owned(), "shop".to_owned())));
        assert_eq!(said.resource.len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (option, set) in [
            (Some("127.0.0.1:4318"), &[][..]),
            (Some("https://collector:4318"), &[]),
            (Some("http://c:1"), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
            (Some("http://c:1"), &[("OTEL_EXPORTER_OTLP_HEADERS", "novalue")]),
            (Some("http://c:1"), &[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]),
            (None, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1")]),
        ] {
            assert!(read(option, set).is_err(), "{option:?} {set:?}");
        }
    }

    #[test]
    fn shares_are_written_in_percent_or_as_a_fraction() {
        assert_eq!((sample("1%"), sample("0.25"), sample("100%")), (Ok(10_000), Ok(250_000), Ok(1_000_000)));
        assert!(sample("101%").is_err() && sample("-1").is_err() && sample("some").is_err());
        let sampler = |name: &'static str| {
            move |key: &str| match key {
                "OTEL_TRACES_SAMPLER" => Some(name.to_owned()),
                "OTEL_TRACES_SAMPLER_ARG" => Some("0.5".to_owned()),
                _ => None,
            }
        };
        assert_eq!(traces_ppm(None, sampler("parentbased_traceidratio")).unwrap(), 500_000);
        assert_eq!(traces_ppm(Some(3), sampler("nonsense")).unwrap(), 3);
        assert!(traces_ppm(None, sampler("nonsense")).is_err());
        assert_eq!(traces_ppm(None, |_| None).unwrap(), DEFAULT_PPM);
    }
}

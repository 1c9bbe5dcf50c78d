//! The known word that a mistyped one most likely stands for.

/// The nearest of `known` to `word`, if one is near enough to be worth suggesting.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    // A third of the word may be wrong: enough for a slip of the finger, too little for another word.
    let farthest = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= farthest * 4)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= farthest)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edit distance: insertions, deletions and replacements of characters, case ignored.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expect) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("SIZE", "size", 0)] {
            assert_eq!(distance(a, b), expect, "{a} {b}");
            assert_eq!(distance(b, a), expect, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["timeout", "memory", "calls", "cpu"];
        let check = |word: &str, expect: Option<&str>| assert_eq!(nearest(word, known).as_deref(), expect);
        check("timout", Some("timeout"));
        check("Memory", Some("memory"));
        check("cals", Some("calls"));
        check("cp", Some("cpu"));
        check("banana", None);
        check("x", None);
    }
}

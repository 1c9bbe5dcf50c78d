//! The known word that a mistyped one most likely stands for.

/// The most edits between a word and its suggestion.
const FARTHEST_MAX: usize = 3;

/// The nearest of `known` to `word`, if one is near enough to be worth suggesting.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    // A third of the word may be wrong: enough for a slip of the finger, too little for another word.
    let farthest = (word.chars().count() / 3).clamp(1, FARTHEST_MAX);
    known
        .into_iter()
        // Cheap refusal first: no character has more than four bytes.
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= FARTHEST_MAX * 4)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= farthest)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Edit distance: insertions, deletions and replacements of characters, swaps of neighbours; case ignored.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    // The rows of the usual table for `i - 1` and `i` characters of `a`: a swap looks two rows back.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut best = (row[j] + usize::from(a[i] != b[j])).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expect) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("SIZE", "size", 0), ("nmae", "name", 1)]
        {
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

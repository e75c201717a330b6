//! The known word that is most similar to a misspelt one, for suggestions. Not here: the messages.

/// Longest word that is compared, bytes: comparing costs time and memory, and no name is longer.
const WORD_BYTES_MAX: usize = 128;

/// Most words that one is compared with, so that files with many names are refused in little time.
const KNOWN_MAX: usize = 1024;

/// The word of `known` at the least distance from `word`: at most a third of its letters, or one, but fewer than all.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let letters = word.chars().count();
    let allowed = (letters / 3).max(1).min(letters.saturating_sub(1));
    known
        .into_iter()
        .take(KNOWN_MAX)
        .filter(|candidate| candidate.chars().count().abs_diff(letters) <= allowed)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Single-letter edits (insert, delete, replace, swap of neighbours) from `a` to `b`, case ignored:
/// the optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["name", "bind", "protocol", "limits", "timeouts", "a"];
        let cases = [
            ("bnd", Some("bind")),
            ("bidn", Some("bind")),
            ("Bind", Some("bind")),
            ("timeout", Some("timeouts")),
            ("protcol", Some("protocol")),
            ("listen", None),
            ("", None),
            ("x", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    /// Each of these would take minutes, or all memory.
    #[test]
    fn long_words_and_many_of_them_are_not_compared() {
        assert_eq!(nearest(&"x".repeat(16 << 20), ["x"]), None);
        let mut asked = 0;
        assert_eq!(nearest("bnd", (0..1_000_000).map(|_| "bind").inspect(|_| asked += 1)), Some("bind"));
        assert!(asked <= super::KNOWN_MAX, "{asked}");
    }
}

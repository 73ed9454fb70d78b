//! Finds the word that somebody probably meant.

/// `: did you mean …?`, or nothing where no word is near.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, known) {
        Some(near) => format!(": did you mean `{near}`?"),
        None => String::new(),
    }
}

/// The known word nearest to `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let most = (length / 3).clamp(1, 3);
    let distance = |known: &str| strsim::osa_distance(&word.to_lowercase(), &known.to_lowercase());
    // Whoever differs in length by more is no near word, and nobody means a word that fills a page.
    let likely = |known: &&str| length <= 255 && known.chars().count().abs_diff(length) <= most;
    let near = known
        .into_iter()
        .filter(likely)
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= most);
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word_and_another_word_finds_none() {
        let known = ["script", "services", "stage", "stages", "needs"];

        assert_eq!(nearest("scirpt", known), Some("script"));
        assert_eq!(nearest("stgae", known), Some("stage"));
        assert_eq!(nearest("Need", known), Some("needs"));
        assert_eq!(nearest("banana", known), None);
    }
}

//! Which characters of somebody else's text are shown. Must not cut or escape anything.

/// Whether a character can stand in a status, a page or a terminal: no control character, and nothing that reverses, hides or breaks
/// the text around it (CVE-2021-42574).
pub fn is_shown(c: char) -> bool {
    let hides = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !hides && !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_language_are_shown_and_what_turns_or_hides_them_is_not() {
        assert!("shop/web: 5 % – größer, 日本語, עברית ✓".chars().all(is_shown));
        for c in [
            '\u{1b}',
            '\n',
            '\u{202e}',
            '\u{2028}',
            '\u{200d}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert!(!is_shown(c), "{c:?}");
        }
    }
}

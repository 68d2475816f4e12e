//! Rules over the image's history: the commands that builders write down.
//!
//! History is what the builder chose to record: its absence proves nothing. Must never repeat a secret.

use super::config::{SECRET_NAMES, SECRET_VALUES};
use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use regex::Regex;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| LayerFault::Malformed(format!("a pattern of the history rules is broken: {e}")))
}

/// Adds one finding for each step that matches.
fn steps(context: &Context<'_>, found: &mut FindingSink<'_>, regex: &str, excused: Option<&str>, what: &str) -> Result {
    let (regex, excused) = (pattern(regex)?, excused.map(pattern).transpose()?);
    for (step, history) in context.config.history.iter().enumerate() {
        let command = &history.created_by;
        if regex.is_match(command) && !excused.as_ref().is_some_and(|e| e.is_match(command)) {
            found.add(
                format!("step {step}").as_bytes(),
                format!("step {step} of the build {what}"),
            );
        }
    }
    Ok(applies(context))
}

fn applies(context: &Context<'_>) -> Applies {
    if context.config.history.is_empty() {
        Applies::No
    } else {
        Applies::Yes
    }
}

pub(super) fn add_url(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let add = r"(?i)(^|#\(nop\)\s+)\s*ADD\s+.*\b(https?|ftp)://";
    steps(
        context,
        found,
        add,
        Some("--checksum="),
        "adds a file from a URL without a checksum",
    )
}

pub(super) fn pipe_to_shell(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let piped = r"\b(curl|wget)\b[^|;&]*\|\s*(sudo\s+(-\S+\s+)*)?(\S*/)?(ba|da|a|k|z)?sh\b|\b(ba|da|a|k|z)?sh\s+(-c\s+)?(<\(|[\x22']?\$\()\s*(curl|wget)\b";
    steps(
        context,
        found,
        piped,
        None,
        "runs what it downloads without a look at it",
    )
}

pub(super) fn chmod_777(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let chmod = r"\bchmod\s+(-\S+\s+)*(0?[0-7]?777|a\+rwx|ugo\+rwx|o\+w|a\+w)\b";
    steps(
        context,
        found,
        chmod,
        Some(r"chmod\s+(-\S+\s+)*1777"),
        "lets everybody write with chmod",
    )
}

pub(super) fn secret(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let names = pattern(SECRET_NAMES)?;
    let values = pattern(SECRET_VALUES)?;
    // `$X`, `${X}` and `$(command)` are no secrets, and neither is a mask; a file's name tells where a secret is.
    let assignment = pattern(r#"([A-Za-z_][A-Za-z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"';&|]+))"#)?;
    let login = pattern(r"://[^\s/:@$]+:[^\s/@$]+@")?;
    for (step, history) in context.config.history.iter().enumerate() {
        let command = &history.created_by;
        let subject = format!("step {step}");
        for captures in assignment.captures_iter(command) {
            let name = captures.get(1).map_or("", |m| m.as_str());
            let value = (2..5).find_map(|group| captures.get(group)).map_or("", |m| m.as_str());
            let known = !value.is_empty() && !value.starts_with('$') && !value.chars().all(|c| c == '*');
            if known && names.is_match(name) {
                let name = show(name.as_bytes());
                found.add(
                    subject.as_bytes(),
                    format!("step {step} of the build sets {name} to a secret"),
                );
            }
        }
        if command
            .split(|c: char| c.is_whitespace() || "\"'=".contains(c))
            .any(|word| values.is_match(word))
        {
            found.add(
                subject.as_bytes(),
                format!("step {step} of the build has a key or token in it"),
            );
        }
        if login.is_match(command) {
            found.add(
                subject.as_bytes(),
                format!("step {step} of the build has a password in a URL"),
            );
        }
    }
    Ok(applies(context))
}

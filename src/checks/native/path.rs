//! The search path of root, wherever it is set: the image's environment and the start files of shells.
//!
//! A static reading of assignments. Must not run anything; what a variable holds is unknown and left out.

use super::content::START_FILES;
use super::error::LayerFault;
use super::layers::folder;
use super::rules::{Applies, Context, FindingSink, show};
use super::tar_stream::Kind;
use super::tree_read::text;
use regex::bytes::Regex;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

/// Stands for the unknown value of a variable or a command.
const UNKNOWN: u8 = 0;

pub(super) fn root_path(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    for variable in &context.config.config.env {
        if let Some(value) = variable.strip_prefix("PATH=") {
            judge(context, found, "the image's environment", value.as_bytes())?;
        }
    }
    let mut files: Vec<Vec<u8>> = START_FILES.iter().map(|f| f.as_bytes().to_vec()).collect();
    files.extend(folder(context.tree, "/etc/profile.d")?);
    for file in &files {
        let Some(content) = text(context.tree, file)? else {
            continue;
        };
        for value in assignments(content)? {
            judge(context, found, &show(file), &value)?;
        }
    }
    Ok(Applies::Yes)
}

/// The values that a script assigns to PATH, quotes removed, unknown parts as [`UNKNOWN`].
fn assignments(script: &[u8]) -> Result<Vec<Vec<u8>>> {
    let sh = pattern(r"(?-u)(?:^|[\s;&|({`])PATH\+?=")?;
    let setenv = pattern(r"(?-u)(?:^|[\s;&|(])setenv\s+PATH\s+")?;
    let csh_list = pattern(r"(?-u)(?:^|[\s;&|(])set\s+path\s*=\s*\(([^)]*)\)")?;
    let mut values = Vec::new();
    for line in script.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.starts_with(b"#") {
            continue;
        }
        for found in sh.find_iter(line).chain(setenv.find_iter(line)) {
            values.push(word(&line[found.end()..]));
        }
        for list in csh_list.captures_iter(line).filter_map(|c| c.get(1)) {
            let words = list.as_bytes().split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
            values.push(words.map(word).collect::<Vec<_>>().join(&b':'));
        }
    }
    Ok(values)
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| LayerFault::Malformed(format!("a pattern of the search path rule is broken: {e}")))
}

/// The first word of a command line, as a shell would read it without expanding anything.
fn word(line: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match (byte, quote) {
            (b'\'', None) => quote = Some(b'\''),
            (b'"', None) => quote = Some(b'"'),
            (b, Some(q)) if b == q => quote = None,
            (b, Some(b'\'')) => value.push(b),
            (b'\\', _) => {
                at += 1;
                value.extend(line.get(at));
            }
            (b'$' | b'`', _) => {
                at += expansion(&line[at..]);
                value.push(UNKNOWN);
                continue;
            }
            (b, None) if b.is_ascii_whitespace() || matches!(b, b';' | b'&' | b'|' | b')' | b'}') => break,
            (b, _) => value.push(b),
        }
        at += 1;
    }
    value
}

/// The length of an expansion: `$x`, `${x:+:$x}`, `$(command)`, `` `command` ``; braces may nest.
fn expansion(text: &[u8]) -> usize {
    let (open, close) = match text.get(..2) {
        Some(b"${") => (b'{', b'}'),
        Some(b"$(") => (b'(', b')'),
        _ if text[0] == b'`' => {
            return text[1..]
                .iter()
                .position(|b| *b == b'`')
                .map_or(text.len(), |end| end + 2);
        }
        _ => {
            let name = text[1..]
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count();
            // `$1x` is `$1` and `x`; a lone `$` and special parameters are one character.
            return match text.get(1) {
                Some(b) if b.is_ascii_digit() || (name == 0 && b"@*#?!-$".contains(b)) => 2,
                _ => 1 + name,
            };
        }
    };
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate() {
        if *byte == open {
            depth += 1;
        } else if *byte == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    text.len()
}

fn judge(context: &Context<'_>, found: &mut FindingSink<'_>, place: &str, value: &[u8]) -> Result<()> {
    for element in value.split(|b| *b == b':') {
        let title = match element.first() {
            None => Some("has an empty element, which means the current directory".to_owned()),
            // Begins with a variable or a home directory: where it leads is not known here.
            Some(&UNKNOWN | b'~') => None,
            Some(b'/') => unsafe_directory(context, element)?,
            Some(_) => Some(format!("has the relative element {}", show(element))),
        };
        if let Some(title) = title {
            found.add(place.as_bytes(), format!("PATH in {place} {title}"));
        }
    }
    Ok(())
}

fn unsafe_directory(context: &Context<'_>, element: &[u8]) -> Result<Option<String>> {
    if element.contains(&UNKNOWN) {
        return Ok(None);
    }
    let Some(id) = context.tree.resolve(element, true)? else {
        return Ok(None);
    };
    let inode = context.tree.inode(id);
    let (path, mode, uid, gid) = (show(element), inode.mode, inode.uid, inode.gid);
    Ok(match inode.kind {
        Kind::Dir if inode.mode & 0o002 != 0 => Some(format!("has {path}, writable by everybody (mode {mode:04o})")),
        Kind::Dir if uid != 0 => Some(format!("has {path}, which belongs to UID {uid} and not to root")),
        Kind::Dir if gid != 0 && mode & 0o020 != 0 && context.accounts.group_has_members(gid) => {
            Some(format!("has {path}, writable by the group {gid} (mode {mode:04o})"))
        }
        Kind::Dir => None,
        Kind::File | Kind::Symlink | Kind::HardLink | Kind::Char | Kind::Block | Kind::Fifo => {
            Some(format!("has {path}, which is no directory"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(script: &str) -> Vec<String> {
        let values = assignments(script.as_bytes()).unwrap();
        values
            .iter()
            .map(|v| String::from_utf8_lossy(v).replace('\0', "?"))
            .collect()
    }

    #[test]
    fn assignments_are_found_in_every_dialect() {
        for (script, expected) in [
            ("PATH=/bin", "/bin"),
            ("  export PATH=\"/a:/b\" # c", "/a:/b"),
            ("if x; then PATH='/a';fi", "/a"),
            ("PATH=$PATH:/a", "?:/a"),
            ("PATH=\"/a${PATH:+:${PATH}}\"", "/a?"),
            ("PATH=`x:y`:/a", "?:/a"),
            ("PATH=$(a b):.", "?:."),
            ("PATH+=:/a", ":/a"),
            ("ENV_SUPATH\tPATH=/sbin:/bin", "/sbin:/bin"),
            ("setenv PATH /a:/b", "/a:/b"),
            ("set path = (/a . $home)", "/a:.:?"),
            ("PATH=/a\\ b:/c", "/a b:/c"),
            ("PATH=$1x:$@", "?x:?"),
        ] {
            assert_eq!(values(script), [expected], "{script}");
        }
    }

    #[test]
    fn what_is_no_assignment_is_left_alone() {
        for script in [
            "# PATH=.",
            "MANPATH=.",
            "unset PATH",
            "case \":${PATH}:\" in",
            "LD_LIBRARY_PATH=x",
            "export PATH",
        ] {
            assert!(values(script).is_empty(), "{script}");
        }
    }
}

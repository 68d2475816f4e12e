//! The accounts of an image: `/etc/passwd`, `/etc/shadow`, `/etc/group`; the rules about them are in `account_rules`.
//!
//! Read from the text of the files alone; no name service of the machine that this runs on is asked.

use super::error::LayerFault;
use super::tree::Tree;
use super::tree_read::text;

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub name: Vec<u8>,
    pub password: Vec<u8>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub name: Vec<u8>,
    pub gid: Option<u32>,
    /// Whether it names members other than root.
    pub has_members: bool,
}

/// The accounts of an image; `None` for a file that it does not have.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub users: Option<Vec<User>>,
    pub groups: Option<Vec<Group>>,
    /// Name and password field of `/etc/shadow`.
    pub shadow: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// File and line of what is not as the format demands.
    pub broken: Vec<(&'static str, Vec<u8>)>,
}

impl Accounts {
    /// Whether an account other than root is in this group. Debian's `staff` owns `/usr/local` and has nobody in it.
    pub fn group_has_members(&self, gid: u32) -> bool {
        let primary = self
            .users
            .iter()
            .flatten()
            .any(|u| u.uid != Some(0) && u.gid == Some(gid));
        primary
            || self
                .groups
                .iter()
                .flatten()
                .any(|g| g.gid == Some(gid) && g.has_members)
    }

    pub fn read(tree: &Tree) -> Result<Self, LayerFault> {
        let mut accounts = Self::default();
        if let Some(passwd) = text(tree, b"/etc/passwd")? {
            accounts.users = Some(accounts.lines("/etc/passwd", passwd, 7, &[2, 3]).map(user));
        }
        if let Some(group) = text(tree, b"/etc/group")? {
            accounts.groups = Some(accounts.lines("/etc/group", group, 4, &[2]).map(|fields| {
                Group {
                    name: field(&fields, 0),
                    gid: fields.get(2).and_then(|f| lenient_id(f)),
                    has_members: field(&fields, 3)
                        .split(|b| *b == b',')
                        .any(|m| !matches!(m, b"" | b"root")),
                }
            }));
        }
        if let Some(shadow) = text(tree, b"/etc/shadow")? {
            let lines = accounts.lines("/etc/shadow", shadow, 9, &[]);
            accounts.shadow = Some(lines.map(|fields| (field(&fields, 0), field(&fields, 1))));
        }
        Ok(accounts)
    }

    /// The fields of each line; a line that the C library would read in its own way is noted, and still looked at.
    fn lines<'a>(&mut self, file: &'static str, text: &'a [u8], count: usize, numbers: &[usize]) -> Lines<'a> {
        let mut lines = Vec::new();
        for line in text.split(|b| *b == b'\n') {
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
            let name_ok = fields.first().is_some_and(|n| {
                !n.is_empty() && !matches!(n[0], b'+' | b'-') && !n.iter().any(|b| b.is_ascii_whitespace() || *b == 0)
            });
            let numbers_ok = numbers.iter().all(|i| fields.get(*i).is_some_and(|f| is_canonical(f)));
            if fields.len() != count || !name_ok || !numbers_ok {
                self.broken.push((file, field(&fields, 0)));
            }
            lines.push(fields);
        }
        Lines(lines)
    }
}

struct Lines<'a>(Vec<Vec<&'a [u8]>>);

impl<'a> Lines<'a> {
    fn map<T>(self, line: impl Fn(Vec<&'a [u8]>) -> T) -> Vec<T> {
        self.0.into_iter().map(line).collect()
    }
}

fn field(fields: &[&[u8]], index: usize) -> Vec<u8> {
    fields.get(index).map(|f| f.to_vec()).unwrap_or_default()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `Lines::map` wants")]
fn user(fields: Vec<&[u8]>) -> User {
    User {
        name: field(&fields, 0),
        password: field(&fields, 1),
        uid: fields.get(2).and_then(|f| lenient_id(f)),
        gid: fields.get(3).and_then(|f| lenient_id(f)),
        home: field(&fields, 5),
        shell: field(&fields, 6),
    }
}

fn is_canonical(digits: &[u8]) -> bool {
    lenient_id(digits).is_some_and(|id| id.to_string().as_bytes() == digits)
}

/// A number as `strtoul` would take it: blanks, a sign, leading zeros.
fn lenient_id(digits: &[u8]) -> Option<u32> {
    let digits = digits.trim_ascii_start();
    let digits = digits
        .strip_prefix(b"+")
        .or_else(|| digits.strip_prefix(b"-"))
        .unwrap_or(digits);
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_c_library_does_and_only_plain_ones_are_canonical() {
        for (text, id) in [
            ("0", Some(0)),
            ("00", Some(0)),
            (" +0", Some(0)),
            ("12x", Some(12)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(lenient_id(text.as_bytes()), id, "{text:?}");
        }
        assert!(is_canonical(b"65534"));
        for text in ["00", "+0", "-1"] {
            assert!(!is_canonical(text.as_bytes()), "{text}");
        }
    }
}

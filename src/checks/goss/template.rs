//! A gossfile made from a good image: "take a secure container as a template". Pure.
//!
//! Every word of an image is hostile here: it becomes a quoted YAML string, in which no template action of Goss (`{{`)
//! can start, and only plain paths become part of a shell command. Must not pin what changes with every update (package
//! versions, checksums): that is a baseline of drift and no policy.

use std::fmt::Write as _;

/// The facts of an image that are worth demanding of its successors. Sorted by whoever made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// Installed packages, without versions.
    pub packages: Vec<String>,
    /// Which package database could not be read, if there is one: the list is then empty, and the gossfile says so.
    pub unread_packages: Option<String>,
    /// Accounts.
    pub users: Vec<User>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Files and folders whose mode and owner matter.
    pub files: Vec<File>,
    /// The SUID and SGID files. No others may appear.
    pub suid: Vec<String>,
    /// Whether the image has `sh` and `find`: without them only the listed files can be tested.
    pub has_find: bool,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: u32,
    /// GID of its first group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// GID.
    pub gid: u32,
}

/// A file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Permission bits, with SUID, SGID and sticky.
    pub mode: u16,
    /// Name of its owner; None if it has none, which Goss cannot test.
    pub owner: Option<String>,
    /// Name of its group; None if it has none.
    pub group: Option<String>,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The gossfile, in YAML.
pub fn gossfile(template: &Template) -> String {
    let mut yaml = String::from(
        "# Made from a good image: read it, remove what may change, add what the image must do.\n\
         # Set minimumTests to the number of tests that it has, so that a lost test is noticed.\n",
    );
    if let Some(unread) = &template.unread_packages {
        let _ = writeln!(
            yaml,
            "# The packages are not in it: their database {} is not read.",
            quoted(unread)
        );
    }
    packages(&mut yaml, &template.packages);
    users(&mut yaml, &template.users);
    groups(&mut yaml, &template.groups);
    files(&mut yaml, &template.files);
    if template.has_find {
        suid(&mut yaml, &template.suid);
    } else {
        yaml.push_str(
            "# No test that other SUID and SGID files are absent: the image has no sh and find to look for them.\n",
        );
    }
    yaml
}

fn packages(yaml: &mut String, packages: &[String]) {
    if !packages.is_empty() {
        yaml.push_str("package:\n");
    }
    for name in packages {
        let _ = writeln!(yaml, "  {}: {{installed: true}}", quoted(name));
    }
}

fn users(yaml: &mut String, users: &[User]) {
    if !users.is_empty() {
        yaml.push_str("user:\n");
    }
    for user in users {
        let (name, home, shell) = (quoted(&user.name), quoted(&user.home), quoted(&user.shell));
        let ids = format!("uid: {}, gid: {}", user.uid, user.gid);
        let _ = writeln!(yaml, "  {name}: {{exists: true, {ids}, home: {home}, shell: {shell}}}");
    }
}

fn groups(yaml: &mut String, groups: &[Group]) {
    if !groups.is_empty() {
        yaml.push_str("group:\n");
    }
    for group in groups {
        let _ = writeln!(yaml, "  {}: {{exists: true, gid: {}}}", quoted(&group.name), group.gid);
    }
}

fn files(yaml: &mut String, files: &[File]) {
    if !files.is_empty() {
        yaml.push_str("file:\n");
    }
    for file in files {
        let kind = if file.is_folder { "directory" } else { "file" };
        let _ = write!(yaml, "  {}: {{exists: true, filetype: {kind}", quoted(&file.path));
        let _ = write!(yaml, ", mode: \"{:04o}\"", file.mode & 0o7777);
        for (key, name) in [("owner", &file.owner), ("group", &file.group)] {
            if let Some(name) = name {
                let _ = write!(yaml, ", {key}: {}", quoted(name));
            }
        }
        yaml.push_str("}\n");
    }
}

/// What `find` finds besides the list is printed, and must be nothing. Without `find` its exit code is 127: no pass.
fn suid(yaml: &mut String, allowed: &[String]) {
    let mut find = String::from(
        "command -v find >/dev/null && (find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -type f \
         \\( -perm -4000 -o -perm -2000 \\)",
    );
    let mut left_out = 0;
    for path in allowed {
        if is_plain(path) {
            let _ = write!(find, " ! -path {path}");
        } else {
            left_out += 1;
        }
    }
    find.push_str(" -print 2>/dev/null | head -n 50)");
    if left_out > 0 {
        let _ = writeln!(
            yaml,
            "# {left_out} SUID or SGID files have names that no shell command is made of: they fail the test."
        );
    }
    yaml.push_str("command:\n  no-other-suid-files:\n    title: \"no SUID or SGID file but those of the template\"\n");
    yaml.push_str("    meta: {severity: high, control: \"CIS 7.1.13\"}\n");
    let _ = writeln!(yaml, "    exec: {}", quoted(&find));
    yaml.push_str("    exit-status: 0\n    stdout: \"\"\n    timeout: 60000\n");
}

/// Characters that mean nothing to a shell or to the patterns of `find -path`.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._+-@".contains(&b))
}

/// A YAML string in double quotes. JSON's are YAML's too; braces are escaped because Goss reads the file as a template
/// first, and would find an action in them.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '{' => quoted.push_str("\\u007b"),
            '}' => quoted.push_str("\\u007d"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;

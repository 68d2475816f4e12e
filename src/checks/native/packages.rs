//! Rules over the package database: only whether it can be understood, never what is in it (scanners do that).

use super::error::LayerFault;
use super::rules::{Applies, Context, Found};

type Result<T = Applies> = std::result::Result<T, LayerFault>;

const DATABASES: &[&str] = &[
    "/var/lib/dpkg/status",
    "/var/lib/dpkg/status.d",
    "/lib/apk/db/installed",
    "/usr/lib/apk/db/installed",
    "/var/lib/rpm",
    "/usr/lib/sysimage/rpm",
];

/// Without a name of the system, scanners find no packages and report no vulnerabilities.
pub(super) fn os_unknown(context: &Context<'_>, found: &mut Found<'_>) -> Result {
    let mut database = None;
    for path in DATABASES {
        if context.tree.resolve(path.as_bytes(), true)?.is_some() {
            database = database.or(Some(*path));
        }
    }
    let Some(database) = database else {
        return Ok(Applies::No);
    };
    let release = match context.text("/etc/os-release")? {
        Some(text) => Some(text),
        None => context.text("/usr/lib/os-release")?,
    };
    let path = b"/etc/os-release";
    let Some(release) = release else {
        found.add(path, format!("the image has packages ({database}) but no os-release"));
        return Ok(Applies::Yes);
    };
    let mut lines = release.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let id = lines.find_map(|line| line.strip_prefix(b"ID="));
    if id.is_none_or(|id| id.iter().all(|b| matches!(b, b'"' | b'\'' | b' '))) {
        found.add(
            path,
            format!("the image has packages ({database}) but os-release has no ID"),
        );
    }
    Ok(Applies::Yes)
}

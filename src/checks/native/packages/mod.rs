//! Rules over the system and its packages: which system it is, and what is installed.
//!
//! Vulnerabilities are the scanners' business.

pub(super) mod database;

mod bdb;
mod ndb;
pub(super) mod rpm_header;
mod sqlite;

use super::error::LayerFault;
use super::glob;
use super::rules::{Applies, Context, FindingSink, show};
use repave_core::os_release::OsRelease;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

fn os_release<'a>(context: &Context<'a>) -> Result<Option<&'a [u8]>> {
    match context.text("/etc/os-release")? {
        Some(text) => Ok(Some(text)),
        None => context.text("/usr/lib/os-release"),
    }
}

/// Without a name of the system, scanners find no packages and report no vulnerabilities.
pub(super) fn os_unknown(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let single = [database::DPKG, database::DPKG_PARTS];
    let places = single.iter().chain(&database::APK).chain(&database::RPM_DIRS);
    let mut database = None;
    for path in places {
        if context.tree.resolve(path.as_bytes(), true)?.is_some() {
            database = database.or(Some(*path));
        }
    }
    let Some(database) = database else {
        return Ok(Applies::No);
    };
    let path = b"/etc/os-release";
    match os_release(context)? {
        None => found.add(path, format!("the image has packages ({database}) but no os-release")),
        Some(text) if OsRelease::parse(text).is_none() => found.add(
            path,
            format!("the image has packages ({database}) but os-release has no ID"),
        ),
        Some(_) => {}
    }
    Ok(Applies::Yes)
}

pub(super) fn end_of_life(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let release = os_release(context)?.and_then(OsRelease::parse);
    let Some((release, end)) = release.and_then(|r| r.end_of_life().map(|end| (r, end))) else {
        return Ok(Applies::No);
    };
    let today = context.now.to_zoned(jiff::tz::TimeZone::UTC).date();
    if today > end {
        let (id, version) = (show(release.id.as_bytes()), show(release.version.as_bytes()));
        found.add(
            b"/etc/os-release",
            format!("{id} {version} has had no security updates since {end}"),
        );
    }
    Ok(Applies::Yes)
}

pub(super) fn forbidden(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(installed) = context.packages()? else {
        return Ok(Applies::No);
    };
    let patterns = &context.options.packages_forbidden;
    for name in &installed.names {
        if let Some(pattern) = patterns.iter().find(|pattern| glob::matches(pattern.as_bytes(), name)) {
            let shown = show(name);
            let why = if pattern.as_bytes() == &name[..] {
                "is forbidden".to_owned()
            } else {
                format!("is forbidden by {}", show(pattern.as_bytes()))
            };
            found.add(name, format!("the package {shown} {why}"));
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn missing(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    if context.options.packages_required.is_empty() {
        return Ok(Applies::No);
    }
    let installed = context.packages()?;
    for pattern in &context.options.packages_required {
        let mut names = installed.iter().flat_map(|installed| &installed.names);
        if !names.any(|name| glob::matches(pattern.as_bytes(), name)) {
            let databases = installed.map_or_else(
                || "the image has no package database".to_owned(),
                |i| {
                    format!(
                        "not in {}",
                        i.databases
                            .iter()
                            .take(5)
                            .map(|d| show(d.as_bytes()))
                            .collect::<Vec<_>>()
                            .join(", ")
                    )
                },
            );
            let shown = show(pattern.as_bytes());
            found.add(
                pattern.as_bytes(),
                format!("the package {shown} is not installed ({databases})"),
            );
        }
    }
    Ok(Applies::Yes)
}

//! Rules over accounts: `/etc/passwd`, `/etc/shadow`, `/etc/group`, `/etc/gshadow`, and home directories.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::accounts::User;
use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use super::tar_stream::Kind;
use std::collections::BTreeMap;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

pub(super) fn extra_uid0(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(users) = &context.accounts.users else {
        return Ok(Applies::No);
    };
    for user in users.iter().filter(|u| u.uid == Some(0) && u.name != b"root") {
        found.add(
            &user.name,
            format!("account {} has UID 0: it is root", show(&user.name)),
        );
    }
    Ok(Applies::Yes)
}

pub(super) fn empty_password(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let accounts = &context.accounts;
    if accounts.users.is_none() && accounts.shadow.is_none() {
        return Ok(Applies::No);
    }
    for user in accounts.users.iter().flatten().filter(|u| u.password.is_empty()) {
        found.add(
            &user.name,
            format!("account {} has no password in /etc/passwd", show(&user.name)),
        );
    }
    for (name, _) in accounts
        .shadow
        .iter()
        .flatten()
        .filter(|(_, password)| password.is_empty())
    {
        found.add(name, format!("account {} has no password in /etc/shadow", show(name)));
    }
    Ok(Applies::Yes)
}

pub(super) fn unshadowed_password(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(users) = &context.accounts.users else {
        return Ok(Applies::No);
    };
    for user in users {
        let locked = user.password == b"x" || user.password.starts_with(b"*") || user.password.starts_with(b"!");
        // An empty field is the worse finding of `native.empty-password`.
        if !locked && !user.password.is_empty() {
            found.add(
                &user.name,
                format!("account {} has its password in /etc/passwd", show(&user.name)),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn syntax(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let accounts = &context.accounts;
    if accounts.users.is_none() && accounts.groups.is_none() && accounts.shadow.is_none() {
        return Ok(Applies::No);
    }
    for (file, name) in &accounts.broken {
        found.add(
            file.as_bytes(),
            format!("{file}: the line of {:?} is not as the format demands", show(name)),
        );
    }
    Ok(Applies::Yes)
}

/// Adds one finding for each value that several names share.
fn duplicates<'a>(found: &mut FindingSink<'_>, what: &str, items: impl Iterator<Item = (Vec<u8>, &'a [u8])>) {
    let mut seen: BTreeMap<Vec<u8>, Vec<&[u8]>> = BTreeMap::new();
    for (value, name) in items {
        seen.entry(value).or_default().push(name);
    }
    for (value, names) in seen.iter().filter(|(_, names)| names.len() > 1) {
        let shown: Vec<String> = names.iter().take(10).map(|n| show(n)).collect();
        found.add(
            value,
            format!(
                "{} entries have {what} {}: {}",
                names.len(),
                show(value),
                shown.join(", ")
            ),
        );
    }
}

pub(super) fn duplicate_uid(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(users) = &context.accounts.users else {
        return Ok(Applies::No);
    };
    let uids = users
        .iter()
        .filter_map(|u| Some((u.uid?.to_string().into_bytes(), &u.name[..])));
    duplicates(found, "UID", uids);
    Ok(Applies::Yes)
}

pub(super) fn duplicate_gid(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(groups) = &context.accounts.groups else {
        return Ok(Applies::No);
    };
    let gids = groups
        .iter()
        .filter_map(|g| Some((g.gid?.to_string().into_bytes(), &g.name[..])));
    duplicates(found, "GID", gids);
    Ok(Applies::Yes)
}

pub(super) fn duplicate_name(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let accounts = &context.accounts;
    if accounts.users.is_none() && accounts.groups.is_none() {
        return Ok(Applies::No);
    }
    let users = accounts.users.iter().flatten().map(|u| (u.name.clone(), &u.name[..]));
    duplicates(found, "the account name", users);
    let groups = accounts.groups.iter().flatten().map(|g| (g.name.clone(), &g.name[..]));
    duplicates(found, "the group name", groups);
    Ok(Applies::Yes)
}

/// Whether somebody can work at this shell. An empty field means `/bin/sh`.
fn is_login_shell(user: &User) -> bool {
    let shell = &user.shell[..];
    let none: [&[u8]; 8] = [
        b"/usr/sbin/nologin",
        b"/sbin/nologin",
        b"/usr/bin/nologin",
        b"/bin/false",
        b"/usr/bin/false",
        // Accounts that every Unix has for one command.
        b"/bin/sync",
        b"/sbin/shutdown",
        b"/sbin/halt",
    ];
    !none.contains(&shell)
}

pub(super) fn login_shell(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(users) = &context.accounts.users else {
        return Ok(Applies::No);
    };
    let allowed = &context.options.application_shells_allowed;
    for user in users.iter().filter(|u| u.uid != Some(0) && is_login_shell(u)) {
        if !std::str::from_utf8(&user.name).is_ok_and(|name| allowed.contains(name)) {
            let shell = if user.shell.is_empty() {
                b"/bin/sh"
            } else {
                &user.shell[..]
            };
            found.add(
                &user.name,
                format!("account {} has the login shell {}", show(&user.name), show(shell)),
            );
        }
    }
    Ok(Applies::Yes)
}

/// Home directories of root and of people (UID 1000 and up); services live in directories of the system.
pub(super) fn home_mode(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let Some(users) = &context.accounts.users else {
        return Ok(Applies::No);
    };
    for user in users {
        let Some(uid) = user.uid.filter(|uid| *uid == 0 || (1000..65534).contains(uid)) else {
            continue;
        };
        // A service without a shell may well live in a shared directory such as /tmp.
        let is_own = uid == 0 || is_login_shell(user) || user.home.starts_with(b"/home/");
        let is_shared = !is_own || user.home.starts_with(b"/usr/") || matches!(&user.home[..], b"/" | b"");
        let Some(id) = context.tree.resolve(&user.home, true)?.filter(|_| !is_shared) else {
            continue;
        };
        let home = context.tree.inode(id);
        if home.kind == Kind::Dir && (home.mode & 0o027 != 0 || home.uid != uid) {
            let (path, name) = (show(&user.home), show(&user.name));
            let (mode, owner) = (home.mode, home.uid);
            found.add(
                &user.home,
                format!("{path}, the home of {name} (UID {uid}), has mode {mode:04o} and owner {owner}"),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn file_mode(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let shadow = b"shadow".as_slice();
    let shadow_gid = context
        .accounts
        .groups
        .iter()
        .flatten()
        .find(|g| g.name == shadow)
        .and_then(|g| g.gid);
    let mut applies = Applies::No;
    for (path, allowed, is_secret) in [
        ("/etc/passwd", 0o644, false),
        ("/etc/passwd-", 0o644, false),
        ("/etc/group", 0o644, false),
        ("/etc/group-", 0o644, false),
        ("/etc/shadow", 0o640, true),
        ("/etc/shadow-", 0o640, true),
        ("/etc/gshadow", 0o640, true),
        ("/etc/gshadow-", 0o640, true),
    ] {
        let Some(id) = context.tree.resolve(path.as_bytes(), true)? else {
            continue;
        };
        applies = Applies::Yes;
        let inode = context.tree.inode(id);
        let group_ok = inode.gid == 0 || (is_secret && Some(inode.gid) == shadow_gid);
        if inode.mode & !allowed != 0 || inode.uid != 0 || !group_ok {
            let (mode, uid, gid) = (inode.mode, inode.uid, inode.gid);
            let expected = format!("expected {allowed:04o} or stricter and root");
            found.add(
                path.as_bytes(),
                format!("{path} has mode {mode:04o} and owner {uid}:{gid}, {expected}"),
            );
        }
    }
    Ok(applies)
}

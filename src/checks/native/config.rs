//! Rules over the image's configuration: user, environment, ports.
//!
//! Must never repeat the value of a variable: reports are kept and read by many.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::error::LayerFault;
use super::rules::{Applies, Context, FindingSink, show};
use regex::Regex;
use repave_core::report::Severity;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

/// Names of variables that hold secrets.
pub(super) const SECRET_NAMES: &str =
    r"(?i)(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY)$";

/// Texts that are secrets whatever their name is.
pub(super) const SECRET_VALUES: &str = r"^(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|glpat-[\w-]{20,}|xox[abpr]-[\w-]{10,}|npm_[A-Za-z0-9]{36})$|-----BEGIN [A-Z ]*PRIVATE KEY";

/// Directories of the system: a volume over one hides what the image was judged by.
const SENSITIVE_VOLUMES: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var",
    "/var/lib",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/run",
];

pub(super) fn user(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    if context.options.allow_root_user {
        return Ok(Applies::No);
    }
    let user = context.config.config.user.trim();
    let name = user.split(':').next().unwrap_or_default();
    let users = context.accounts.users.iter().flatten();
    let is_uid0 = name.parse::<u64>() == Ok(0)
        || name == "root"
        || users.into_iter().any(|u| u.name == name.as_bytes() && u.uid == Some(0));
    if name.is_empty() {
        found.add(b"USER", "the image sets no user, so it runs as root");
    } else if is_uid0 {
        found.add(
            b"USER",
            format!("the image runs as root (USER {})", show(user.as_bytes())),
        );
    }
    Ok(Applies::Yes)
}

pub(super) fn env_secret(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let broken = |e| LayerFault::Malformed(format!("a pattern of the secrets rule is broken: {e}"));
    let names = Regex::new(SECRET_NAMES).map_err(broken)?;
    let values = Regex::new(SECRET_VALUES).map_err(broken)?;
    for variable in &context.config.config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        let value = value.trim();
        if !value.is_empty() && (names.is_match(name) || values.is_match(value)) {
            let name = show(name.as_bytes());
            found.add(
                name.as_bytes(),
                format!("the environment variable {name} holds a secret"),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn exposed_port(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    for port in context.config.config.exposed_ports.keys() {
        let text = port.split('/').next().unwrap_or_default();
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            found.add(
                port.as_bytes(),
                format!("the exposed port {} is no number", show(port.as_bytes())),
            );
            continue;
        };
        let allowed = &context.options.ports_allowed;
        if (first..=last).all(|port| allowed.contains(&port)) && first <= last {
            continue;
        }
        let has_login = [22, 23, 3389].iter().any(|p| (first..=last).contains(p));
        if has_login {
            let title = format!(
                "the image exposes port {}, which is for remote logins",
                show(port.as_bytes())
            );
            found.add_as(Severity::Medium, port.as_bytes(), title);
        } else if first < 1024 {
            found.add(
                port.as_bytes(),
                format!("the image exposes the privileged port {}", show(port.as_bytes())),
            );
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn volume(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    for path in context.config.config.volumes.keys() {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let plain = format!("/{}", parts.join("/"));
        // Below these, every path belongs to the kernel or the system's settings.
        let inside = ["/etc/", "/proc/", "/sys/", "/dev/"]
            .iter()
            .any(|dir| plain.starts_with(dir));
        let socket = plain.ends_with("/docker.sock") || plain.ends_with("/containerd.sock");
        if parts.contains(&"..") || SENSITIVE_VOLUMES.contains(&plain.as_str()) || inside || socket {
            let shown = show(path.as_bytes());
            found.add(path.as_bytes(), format!("the image declares a volume over {shown}"));
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn label(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    if context.options.labels_required.is_empty() {
        return Ok(Applies::No);
    }
    for name in &context.options.labels_required {
        if context
            .config
            .config
            .labels
            .get(name)
            .is_none_or(|value| value.trim().is_empty())
        {
            let shown = show(name.as_bytes());
            found.add(name.as_bytes(), format!("the image has no label {shown}"));
        }
    }
    Ok(Applies::Yes)
}

pub(super) fn healthcheck(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let test = context
        .config
        .config
        .healthcheck
        .as_ref()
        .map(|check| check.test.as_slice());
    if test.is_none_or(|test| test.is_empty() || test[0] == "NONE") {
        found.add(b"HEALTHCHECK", "the image has no HEALTHCHECK");
    }
    Ok(Applies::Yes)
}

pub(super) fn shell_form(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let run = &context.config.config;
    for (what, command) in [("ENTRYPOINT", &run.entrypoint), ("CMD", &run.cmd)] {
        if let [shell, flag, ..] = command.as_slice()
            && shell.ends_with("sh")
            && flag == "-c"
        {
            found.add(
                what.as_bytes(),
                format!("{what} is in shell form ({} -c)", show(shell.as_bytes())),
            );
        }
    }
    Ok(Applies::Yes)
}

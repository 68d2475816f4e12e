//! Rules over the image's configuration: user, environment, ports.
//!
//! Must never repeat the value of a variable: reports are kept and read by many.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all rules share one signature, and some can fail"
)]

use super::error::LayerFault;
use super::rules::{Applies, Context, Found, show};
use crate::domain::report::Severity;
use regex::Regex;

type Result<T = Applies> = std::result::Result<T, LayerFault>;

pub(super) fn user(context: &Context<'_>, found: &mut Found<'_>) -> Result {
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

pub(super) fn env_secret(context: &Context<'_>, found: &mut Found<'_>) -> Result {
    let broken = |e| LayerFault::Malformed(format!("a pattern of the secrets rule is broken: {e}"));
    let names =
        r"(?i)(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY)$";
    let names = Regex::new(names).map_err(broken)?;
    let values = r"^(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|glpat-[\w-]{20,}|xox[abpr]-[\w-]{10,})$|-----BEGIN [A-Z ]*PRIVATE KEY";
    let values = Regex::new(values).map_err(broken)?;
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

pub(super) fn exposed_port(context: &Context<'_>, found: &mut Found<'_>) -> Result {
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

//! Rules over the repositories that packages are installed from: apt (both formats), yum and dnf, apk.
//!
//! Reads the files as the package managers do, as far as it matters who is trusted. What is disabled does not count.

use super::error::LayerFault;
use super::layers::folder;
use super::rules::{Applies, Context, FindingSink, show};

type Result<T = Applies> = std::result::Result<T, LayerFault>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Apt,
    Rpm,
    Apk,
}

/// One enabled repository.
#[derive(Debug, PartialEq, Eq)]
struct Repository {
    kind: Kind,
    file: String,
    urls: Vec<String>,
    /// Accepts packages without a signature, and why.
    unsigned: Option<String>,
    /// apt: names the key that it must be signed with.
    has_key: bool,
}

fn repositories(context: &Context<'_>) -> Result<Vec<Repository>> {
    let mut all = Vec::new();
    let mut apt: Vec<Vec<u8>> = vec![b"/etc/apt/sources.list".to_vec()];
    apt.extend(folder(context.tree, "/etc/apt/sources.list.d")?);
    for path in apt {
        let text = lossy(context, &path)?;
        let read = if path.ends_with(b".sources") { deb822 } else { one_line };
        all.extend(read(&show(&path), &text));
    }
    let mut checked = None;
    for path in ["/etc/yum.conf", "/etc/dnf/dnf.conf"] {
        let sections = ini(&lossy(context, path.as_bytes())?);
        let main = sections.iter().find(|(name, _)| name == "main");
        checked = main
            .and_then(|(_, keys)| value(keys, "gpgcheck").map(is_true))
            .or(checked);
    }
    for dir in ["/etc/yum.repos.d", "/etc/dnf/repos.d"] {
        for path in folder(context.tree, dir)? {
            all.extend(yum(&show(&path), &lossy(context, &path)?, checked));
        }
    }
    let apk = "/etc/apk/repositories";
    for line in lossy(context, apk.as_bytes())?.lines().map(str::trim) {
        // `@tag url` pins a repository to a tag.
        let url = line
            .split_whitespace()
            .find(|word| !word.starts_with('@'))
            .unwrap_or_default();
        if !url.is_empty() && !line.starts_with('#') {
            all.push(Repository {
                kind: Kind::Apk,
                file: apk.into(),
                urls: vec![url.to_owned()],
                unsigned: None,
                has_key: true,
            });
        }
    }
    Ok(all)
}

fn lossy(context: &Context<'_>, path: &[u8]) -> Result<String> {
    let text = super::tree_read::text(context.tree, path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// apt's own words for yes.
fn is_true(value: &str) -> bool {
    ["yes", "true", "with", "on", "enable", "1"].contains(&value.trim().to_ascii_lowercase().as_str())
}

/// Settings of one apt source that switch the check of signatures off.
fn apt_unsigned<'a>(mut options: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let weak = ["trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure"];
    options
        .find(|(key, value)| weak.iter().any(|w| w.eq_ignore_ascii_case(key)) && is_true(value))
        .map(|(key, value)| format!("{key}={value}"))
}

/// `deb [signed-by=… trusted=yes] https://host/debian suite component…`
fn one_line(file: &str, text: &str) -> Vec<Repository> {
    let mut all = Vec::new();
    for line in text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
    {
        let Some((kind, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        if !matches!(kind, "deb" | "deb-src") {
            continue;
        }
        let rest = rest.trim();
        let (options, rest) = rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .unwrap_or(("", rest));
        let options: Vec<(&str, &str)> = options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .collect();
        all.push(Repository {
            kind: Kind::Apt,
            file: file.to_owned(),
            urls: rest.split_whitespace().take(1).map(str::to_owned).collect(),
            unsigned: apt_unsigned(options.iter().copied()),
            has_key: options.iter().any(|(key, _)| key.eq_ignore_ascii_case("signed-by")),
        });
    }
    all
}

/// Stanzas of `Key: value` with continuation lines.
fn deb822(file: &str, text: &str) -> Vec<Repository> {
    let mut all = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if !line.trim().is_empty() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            continue;
        }
        let stanza = std::mem::take(&mut fields);
        let get = |name: &str| {
            let field = stanza.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            field.map(|(_, value)| value.as_str())
        };
        let enabled = get("Enabled").is_none_or(is_true);
        if let Some(uris) = get("URIs").filter(|_| enabled) {
            all.push(Repository {
                kind: Kind::Apt,
                file: file.to_owned(),
                urls: uris.split_whitespace().map(str::to_owned).collect(),
                unsigned: apt_unsigned(stanza.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
                has_key: get("Signed-By").is_some_and(|key| !key.is_empty()),
            });
        }
    }
    all
}

type Section = (String, Vec<(String, String)>);

fn ini(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let Some((_, keys)) = sections.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = keys.last_mut() {
                value.push(' ');
                value.push_str(trimmed);
            }
        } else if let Some((key, value)) = trimmed.split_once('=') {
            keys.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sections
}

fn value<'a>(keys: &'a [(String, String)], name: &str) -> Option<&'a str> {
    keys.iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// `checked`: what `[main]` says about gpgcheck, which is off unless somebody says otherwise.
fn yum(file: &str, text: &str, checked: Option<bool>) -> Vec<Repository> {
    let mut all = Vec::new();
    for (name, keys) in ini(text) {
        if name == "main" || value(&keys, "enabled").is_some_and(|v| !is_true(v)) {
            continue;
        }
        let own = value(&keys, "gpgcheck").map(is_true);
        let unsigned = match (own, checked) {
            (Some(true), _) | (None, Some(true)) => None,
            (Some(false), _) => Some(format!("gpgcheck=0 of [{name}]")),
            (None, Some(false)) => Some(format!("gpgcheck=0 of [main], for [{name}]")),
            (None, None) => Some(format!("no gpgcheck=1 for [{name}]")),
        };
        let urls = ["baseurl", "mirrorlist", "metalink"]
            .iter()
            .filter_map(|key| value(&keys, key));
        all.push(Repository {
            kind: Kind::Rpm,
            file: file.to_owned(),
            urls: urls
                .flat_map(|v| v.split([' ', ',', '\t']))
                .filter(|u| !u.is_empty())
                .map(str::to_owned)
                .collect(),
            unsigned,
            has_key: true,
        });
    }
    all
}

fn is_http(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default().to_ascii_lowercase();
    url.contains("://") && matches!(scheme.as_str(), "http" | "ftp")
}

/// The host of a URL; `None` for local places.
fn host(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if matches!(scheme, "file" | "cdrom" | "copy") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let without_port = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    Some(without_port.to_ascii_lowercase())
}

fn applies(all: &[Repository]) -> Applies {
    if all.is_empty() { Applies::No } else { Applies::Yes }
}

pub(super) fn unsigned(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let all = repositories(context)?;
    for repository in &all {
        if let Some(why) = &repository.unsigned {
            let file = &repository.file;
            let why = show(why.as_bytes());
            found.add(
                file.as_bytes(),
                format!("{file} accepts packages without a signature ({why})"),
            );
        }
    }
    let mut settings: Vec<Vec<u8>> = vec![b"/etc/apt/apt.conf".to_vec()];
    settings.extend(folder(context.tree, "/etc/apt/apt.conf.d")?);
    let mut has_settings = false;
    for path in settings {
        let text = lossy(context, &path)?.to_ascii_lowercase();
        has_settings |= !text.is_empty();
        for key in [
            "allowunauthenticated",
            "allowinsecurerepositories",
            "allowweakrepositories",
            "allowdowngradetoinsecurerepositories",
        ] {
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#'));
            let mut values =
                lines.filter_map(|line| Some(line.split_once(key)?.1.trim().trim_matches(['"', ';', ' ']).to_owned()));
            if values.any(|value| is_true(&value)) {
                let file = show(&path);
                found.add(&path, format!("{file} accepts packages without a signature ({key})"));
            }
        }
    }
    Ok(if has_settings { Applies::Yes } else { applies(&all) })
}

pub(super) fn plain_http(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let mut all = repositories(context)?;
    all.retain(|repository| repository.kind != Kind::Apt);
    for repository in &all {
        for url in repository.urls.iter().filter(|url| is_http(url)) {
            report_http(found, repository, url);
        }
    }
    Ok(applies(&all))
}

fn report_http(found: &mut FindingSink<'_>, repository: &Repository, url: &str) {
    // The whole URL may hold a password.
    let (file, host) = (&repository.file, host(url).unwrap_or_default());
    found.add(
        file.as_bytes(),
        format!("{file} has a repository over plain http ({})", show(host.as_bytes())),
    );
}

pub(super) fn apt_source(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let mut all = repositories(context)?;
    all.retain(|repository| repository.kind == Kind::Apt);
    for repository in &all {
        for url in repository.urls.iter().filter(|url| is_http(url)) {
            report_http(found, repository, url);
        }
        if !repository.has_key {
            let file = &repository.file;
            found.add(
                file.as_bytes(),
                format!("{file} has a source that every trusted key may sign (no Signed-By)"),
            );
        }
    }
    Ok(applies(&all))
}

pub(super) fn host_allowed(context: &Context<'_>, found: &mut FindingSink<'_>) -> Result {
    let allowed = &context.options.repositories_allowed;
    let all = repositories(context)?;
    if allowed.is_empty() {
        return Ok(Applies::No);
    }
    for repository in &all {
        for url in &repository.urls {
            let is_allowed = |host: &String| allowed.iter().any(|a| a.eq_ignore_ascii_case(host));
            if let Some(host) = host(url).filter(|host| !is_allowed(host)) {
                let file = &repository.file;
                found.add(
                    file.as_bytes(),
                    format!(
                        "{file} has a repository on {}, which repositoriesAllowed does not name",
                        show(host.as_bytes())
                    ),
                );
            }
        }
    }
    Ok(applies(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls() {
        for (url, expected) in [
            ("https://deb.debian.org/debian", Some("deb.debian.org")),
            ("http://me:pw@Mirror.example.com:8080/x", Some("mirror.example.com")),
            ("https://[::1]:80/x", Some("::1")),
            ("file:///srv/repo", None),
            ("/srv/repo", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn apt_sources_are_read_in_both_formats() {
        let line = one_line(
            "f",
            "# x\ndeb [arch=amd64 Trusted=yes] http://a/b c d # e\ndeb-src https://s/ x\nrpm http://no x\n",
        );
        assert_eq!(line.len(), 2);
        assert_eq!(
            (line[0].unsigned.as_deref(), line[0].urls.join(" ")),
            (Some("Trusted=yes"), "http://a/b".into())
        );
        let text = "Types: deb\nURIs: http://a/\n https://b/\nSigned-By:\n -----BEGIN\n .\n\n# x\nEnabled: no\nURIs: http://c\nTrusted: yes\n";
        let stanzas = deb822("f", text);
        assert_eq!(stanzas.len(), 1);
        assert_eq!(
            (stanzas[0].urls.join(" "), stanzas[0].has_key),
            ("http://a/ https://b/".into(), true)
        );
    }

    #[test]
    fn yum_checks_signatures_only_when_told() {
        let of = |text: &str, main| {
            yum("f", text, main)
                .into_iter()
                .map(|r| r.unsigned.is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("[a]\nbaseurl=https://x\n", None), [true]);
        assert_eq!(of("[a]\nbaseurl=https://x\n", Some(true)), [false]);
        assert_eq!(
            of(
                "[a]\ngpgcheck = 0\n[b]\ngpgcheck=1\n[c]\nenabled=0\ngpgcheck=0\n",
                Some(true)
            ),
            [true, false]
        );
    }
}

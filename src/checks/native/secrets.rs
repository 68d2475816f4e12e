//! Which files may hold a secret, by their name, and whether they do, by their content.
//!
//! Names first, because reading every file would cost more than the rest of the check; what has another name is not
//! found (secret scanners look for those). Must never keep or repeat a secret.

use regex::bytes::Regex;

/// Kinds of secrets as a set: several names of one file may ask for several kinds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Secrets(u16);

const PRIVATE_KEY: u16 = 1;
const AUTHORIZED_KEYS: u16 = 1 << 1;
/// The first of the credentials: bit n is for `CREDENTIALS[n - FIRST]`.
const FIRST: u32 = 2;

/// A kind of credentials: what to call it, the ends of its path, and what its content must have.
struct Credentials {
    what: &'static str,
    paths: &'static [&'static str],
    pattern: &'static str,
}

const CREDENTIALS: &[Credentials] = &[
    Credentials {
        what: "AWS credentials",
        paths: &["/.aws/credentials", "/.aws/config"],
        pattern: r"(?mi-u)^\s*aws_(secret_access_key|session_token)\s*=\s*\S",
    },
    Credentials {
        what: "Google Cloud credentials",
        paths: &[
            "/gcloud/application_default_credentials.json",
            "/gcloud/credentials.db",
            "/gcloud/access_tokens.db",
            "/gcloud/legacy_credentials",
            "/service-account.json",
            "/service_account.json",
        ],
        pattern: r#"(?-u)"(private_key|refresh_token)"\s*:\s*"[^"]|^SQLite format 3"#,
    },
    Credentials {
        what: "Azure credentials",
        paths: &[
            "/.azure/accessTokens.json",
            "/.azure/msal_token_cache.json",
            "/.azure/service_principal_entries.json",
            "/.azure/azureProfile.json",
        ],
        pattern: r#"(?i-u)"(accessToken|refreshToken|refresh_token|secret|client_secret)"\s*:\s*"[^"]"#,
    },
    Credentials {
        what: "registry credentials",
        paths: &[
            "/.docker/config.json",
            "/.dockercfg",
            "/containers/auth.json",
            "/.dockerconfigjson",
        ],
        pattern: r#"(?-u)"(auth|identitytoken|registrytoken|password)"\s*:\s*"[^"]"#,
    },
    Credentials {
        what: "Kubernetes credentials",
        paths: &[
            "/.kube/config",
            "/kubeconfig",
            "/etc/kubernetes/admin.conf",
            "/etc/kubernetes/kubelet.conf",
        ],
        pattern: r#"(?m-u)^[\s"]*(client-key-data|token|password)"?\s*:\s*\S|"(client-key-data|token|password)"\s*:\s*"[^"]"#,
    },
    Credentials {
        what: "a password for a remote machine",
        paths: &["/.netrc", "/_netrc"],
        pattern: r"(?-u)(^|\s)password\s+\S",
    },
    Credentials {
        what: "an npm token",
        paths: &["/.npmrc", "/etc/npmrc"],
        pattern: r"(?m-u)^[^#;\n]*_(authToken|auth|password)\s*=\s*[^\s$]",
    },
    Credentials {
        what: "Git credentials",
        paths: &["/.git-credentials", "/git/credentials"],
        pattern: r"(?-u)://[^\s/:@]*:[^\s/@]+@",
    },
    Credentials {
        what: "PyPI credentials",
        paths: &["/.pypirc"],
        pattern: r"(?m-u)^\s*password\s*[:=]\s*\S",
    },
];

impl Secrets {
    /// What a file of this path may hold.
    pub fn sought(path: &[u8]) -> Self {
        let name = basename(path);
        let mut kinds = 0;
        if is_key_name(path, name) {
            kinds |= PRIVATE_KEY;
        }
        if path.ends_with(b"/.ssh/authorized_keys")
            || path.ends_with(b"/.ssh/authorized_keys2")
            || path.starts_with(b"/etc/ssh/authorized_keys")
            || path.starts_with(b"/etc/dropbear/authorized_keys")
        {
            kinds |= AUTHORIZED_KEYS;
        }
        for (index, kind) in (FIRST..).zip(CREDENTIALS) {
            if kind.paths.iter().any(|end| path.ends_with(end.as_bytes())) {
                kinds |= 1 << index;
            }
        }
        Self(kinds)
    }

    /// Those of these kinds that the text really holds.
    pub fn held(self, text: &[u8]) -> Self {
        let mut found = 0;
        if self.0 & PRIVATE_KEY != 0 && holds_private_key(text) {
            found |= PRIVATE_KEY;
        }
        let mut lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        if self.0 & AUTHORIZED_KEYS != 0 && lines.any(|line| !line.is_empty() && !line.starts_with(b"#")) {
            found |= AUTHORIZED_KEYS;
        }
        for (index, kind) in (FIRST..).zip(CREDENTIALS) {
            // A pattern of ours that does not compile finds too much rather than too little; a test compiles them all.
            if self.0 & 1 << index != 0 && Regex::new(kind.pattern).map_or(true, |pattern| pattern.is_match(text)) {
                found |= 1 << index;
            }
        }
        Self(found)
    }

    pub fn any(self) -> bool {
        self.0 != 0
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn private_key(self) -> bool {
        self.0 & PRIVATE_KEY != 0
    }

    pub fn authorized_keys(self) -> bool {
        self.0 & AUTHORIZED_KEYS != 0
    }

    /// The kinds of credentials, in words.
    pub fn credentials(self) -> impl Iterator<Item = &'static str> {
        let kinds = (FIRST..).zip(CREDENTIALS);
        kinds
            .filter(move |(index, _)| self.0 & 1 << index != 0)
            .map(|(_, kind)| kind.what)
    }

    /// Private keys and credentials in words: what must not be in any layer. Keys that let somebody in are no secret.
    pub fn words(self) -> Vec<&'static str> {
        let key = self.private_key().then_some("a private key");
        key.into_iter().chain(self.credentials()).collect()
    }
}

/// The last part of a path.
pub(super) fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

fn is_key_name(path: &[u8], name: &[u8]) -> bool {
    let named = [&b"_key"[..], b".pem", b".key", b".p8", b".ppk", b".asc", b".gpg"]
        .iter()
        .any(|suffix| name.ends_with(suffix));
    let ssh = [&b"id_rsa"[..], b"id_dsa", b"id_ecdsa", b"id_ed25519", b"identity"].contains(&name);
    named || ssh || path.starts_with(b"/etc/ssl/private/") || path.starts_with(b"/etc/pki/tls/private/")
}

/// Whether a PEM, OpenSSH, PGP or PuTTY private key starts in this text.
fn holds_private_key(text: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    if text.starts_with(b"PuTTY-User-Key-File-") {
        return true;
    }
    let mut rest = text;
    while let Some(at) = rest.windows(BEGIN.len()).position(|w| w == BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let label = &rest[..rest.len().min(64)];
        let label = label.split(|b| *b == b'-' || *b == b'\n').next().unwrap_or_default();
        if label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_told_from_certificates() {
        for text in [
            "-----BEGIN PRIVATE KEY-----\nx",
            "# note\n-----BEGIN CERTIFICATE-----\n-----BEGIN OPENSSH PRIVATE KEY-----",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "PuTTY-User-Key-File-3: ssh-ed25519",
        ] {
            assert!(holds_private_key(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\nMII",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN ",
        ] {
            assert!(!holds_private_key(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn credentials_are_told_from_configuration_without_secrets() {
        for (path, bad, good) in [
            (
                "/root/.aws/credentials",
                "[default]\naws_secret_access_key = abc",
                "[default]\nregion = x",
            ),
            (
                "/root/.config/gcloud/application_default_credentials.json",
                r#"{"refresh_token": "1//x"}"#,
                r#"{"refresh_token": ""}"#,
            ),
            (
                "/root/.azure/msal_token_cache.json",
                r#"{"secret":"x"}"#,
                r#"{"x":"secret"}"#,
            ),
            (
                "/root/.docker/config.json",
                r#"{"auths":{"r":{"auth":"eA=="}}}"#,
                r#"{"auths":{"r":{}},"credsStore":"x"}"#,
            ),
            (
                "/root/.kube/config",
                "users:\n- user:\n    token: abc\n",
                "users:\n- user:\n    exec: {}\n",
            ),
            (
                "/root/.kube/config",
                r#"{"users":[{"user":{"token":"a"}}]}"#,
                "clusters: []",
            ),
            ("/root/.netrc", "machine x login y password z", "machine x login y"),
            (
                "/root/.npmrc",
                "//registry.npmjs.org/:_authToken=npm_x",
                "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
            ),
            (
                "/root/.git-credentials",
                "https://me:secret@example.com",
                "https://example.com",
            ),
            ("/root/.pypirc", "[pypi]\npassword = pypi-x", "[pypi]\nusername = x"),
        ] {
            let sought = Secrets::sought(path.as_bytes());
            assert_eq!(sought.held(bad.as_bytes()).credentials().count(), 1, "{path}");
            assert!(!sought.held(good.as_bytes()).any(), "{path}");
        }
    }

    #[test]
    fn all_patterns_compile() {
        for kind in CREDENTIALS {
            assert!(Regex::new(kind.pattern).is_ok(), "{}", kind.what);
        }
        assert!(FIRST as usize + CREDENTIALS.len() <= 16);
    }
}

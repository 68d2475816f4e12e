//! A package URL, parsed once: type, namespace, name and version, without qualifiers and subpath.
//!
//! Must not compare texts: `%2B` and `+` are the same version. Grammar: <https://github.com/package-url/purl-spec>.

use std::{fmt, fmt::Write as _, str::FromStr};

/// Longest package URL that is read, in bytes.
const MAX: usize = 2_000;

/// A package, with or without its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageUrl {
    /// `deb`, `rpm`, `apk`, `golang`, …; lower case.
    pub kind: String,
    /// The path before the name: `debian`, `github.com/spf13`; empty where there is none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The version, decoded.
    pub version: Option<String>,
}

/// A text that is not a package URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a package URL such as pkg:deb/debian/openssl@3.0.15-1, found {found:?}")]
pub struct InvalidPackageUrl {
    /// The text as found, cut to 200 characters.
    pub found: String,
}

impl FromStr for PackageUrl {
    type Err = InvalidPackageUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPackageUrl> {
        parse(text).ok_or_else(|| InvalidPackageUrl {
            found: text.chars().take(200).collect(),
        })
    }
}

fn parse(text: &str) -> Option<PackageUrl> {
    let rest = text.strip_prefix("pkg:").filter(|_| text.len() <= MAX)?;
    let rest = rest.split(['?', '#']).next().unwrap_or(rest).trim_matches('/');
    let (kind, path) = rest.split_once('/')?;
    // An `@` within a namespace (npm scopes) is written %40, so the last one starts the version.
    let (path, version) = match path.rsplit_once('@') {
        Some((path, version)) => (path, Some(decoded(version)?).filter(|version| !version.is_empty())),
        None => (path, None),
    };
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (namespace, name) = (decoded(namespace)?, decoded(name)?);
    let is_kind =
        |kind: &str| !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b));
    (is_kind(kind) && !name.is_empty()).then(|| PackageUrl {
        kind: kind.to_ascii_lowercase(),
        namespace,
        name,
        version,
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str, plain: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl fmt::Display for PackageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", encoded(&self.namespace, b"/"))?;
        }
        f.write_str(&encoded(&self.name, b""))?;
        self.version
            .iter()
            .try_for_each(|version| write!(f, "@{}", encoded(version, b":")))
    }
}

impl PackageUrl {
    /// Whether a statement about `self` is one about `package`: one without a version is about all versions.
    pub fn covers(&self, package: &Self) -> bool {
        self.kind == package.kind
            && self.namespace == package.namespace
            && self.name == package.name
            && (self.version.is_none() || self.version == package.version)
    }

    /// Whether it belongs to an operating system's package manager.
    pub fn is_os_package(&self) -> bool {
        matches!(self.kind.as_str(), "deb" | "rpm" | "apk" | "alpm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn qualifiers_go_and_encodings_are_the_same_package() {
        let long = "pkg:deb/debian/perl-base@5.36.0-7%2Bdeb12u3?arch=amd64&distro=debian-12.15#sub";
        let package: PackageUrl = long.parse().unwrap();
        assert_eq!(package.to_string(), "pkg:deb/debian/perl-base@5.36.0-7%2Bdeb12u3");
        assert_eq!("pkg:deb/debian/perl-base@5.36.0-7+deb12u3".parse(), Ok(package.clone()));
        assert!(
            "pkg:deb/debian/perl-base"
                .parse::<PackageUrl>()
                .unwrap()
                .covers(&package)
        );
        assert!(
            !"pkg:deb/debian/perl-base@5"
                .parse::<PackageUrl>()
                .unwrap()
                .covers(&package)
        );
        assert!(
            !"pkg:deb/ubuntu/perl-base"
                .parse::<PackageUrl>()
                .unwrap()
                .covers(&package)
        );
        assert!(package.is_os_package());
    }

    #[test]
    fn what_is_no_package_url_is_refused() {
        for text in [
            "",
            "pkg:",
            "pkg:deb",
            "pkg:deb/",
            "deb/debian/x",
            "pkg:d b/x",
            "pkg:deb/%zz",
            "pkg:deb/x@%ff",
        ] {
            assert!(text.parse::<PackageUrl>().is_err(), "{text}");
        }
        assert!(format!("pkg:deb/{}", "x".repeat(MAX)).parse::<PackageUrl>().is_err());
        let npm: PackageUrl = "pkg:npm/%40angular/core@1.0".parse().unwrap();
        assert_eq!(
            (npm.namespace.as_str(), npm.to_string().as_str()),
            ("@angular", "pkg:npm/%40angular/core@1.0")
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_is_stable(text in "pkg:[a-z]{1,4}/\\PC{0,40}") {
            if let Ok(package) = text.parse::<PackageUrl>() {
                prop_assert_eq!(package.to_string().parse::<PackageUrl>(), Ok(package));
            }
        }
    }
}

//! Which operating system an image is, by its os-release, and until when that system gets security updates.
//!
//! The dates are the last day of updates that everybody gets without a contract: Debian's LTS counts, Ubuntu Pro and
//! Red Hat's ELS do not. A system or release that is not in the table is unknown, never "supported": callers must say so.
//! Must not read a clock. Checked in 2026-11.

use jiff::civil::{Date, date};

/// The two fields of os-release(5) that name a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty for a rolling system.
    pub version: String,
}

/// Longest value that is kept.
const MAX_VALUE: usize = 100;

impl OsRelease {
    /// Reads os-release: `None` when it has no `ID`. As in a shell, the last assignment wins.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let field = |name: &str| {
            let mut lines = text.lines().rev();
            let value = lines.find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
            let value = value.trim().trim_matches(['"', '\'']).trim();
            (!value.is_empty()).then(|| value.chars().take(MAX_VALUE).collect::<String>())
        };
        Some(Self {
            id: field("ID")?,
            version: field("VERSION_ID").unwrap_or_default(),
        })
    }

    /// The last day with security updates: `None` for a system or release that is not in the table. A release older than
    /// all in the table ended with the oldest of them, at the latest.
    pub fn end_of_life(&self) -> Option<Date> {
        let system = SYSTEMS.iter().find(|system| system.ids.contains(&self.id.as_str()))?;
        let (major, minor) = numbers(&self.version)?;
        let wanted = if system.by_minor { (major, minor) } else { (major, 0) };
        let known = system.releases.iter().find(|release| (release.0, release.1) == wanted);
        let oldest = system.releases.first().filter(|oldest| wanted < (oldest.0, oldest.1));
        known.or(oldest).map(|release| release.2)
    }
}

/// `9.6` as (9, 6), `3.20.1` as (3, 20), `12` as (12, 0).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Some(0), |minor| minor.parse().ok())?;
    Some((major, minor))
}

/// One system's releases, oldest first: major, minor, last day.
struct System {
    ids: &'static [&'static str],
    /// Whether the minor number makes a release of its own.
    by_minor: bool,
    releases: &'static [(u32, u32, Date)],
}

const SYSTEMS: &[System] = &[
    // distro-info-data (debian.csv, column eol-lts), https://wiki.debian.org/LTS
    System {
        ids: &["debian"],
        by_minor: false,
        releases: &[
            (8, 0, date(2020, 6, 30)),
            (9, 0, date(2022, 6, 30)),
            (10, 0, date(2024, 6, 30)),
            (11, 0, date(2026, 8, 31)),
            (12, 0, date(2028, 6, 30)),
            (13, 0, date(2030, 6, 30)),
        ],
    },
    // distro-info-data (ubuntu.csv, column eol), https://ubuntu.com/about/release-cycle
    System {
        ids: &["ubuntu"],
        by_minor: true,
        releases: &[
            (14, 4, date(2019, 4, 25)),
            (16, 4, date(2021, 4, 30)),
            (18, 4, date(2023, 5, 31)),
            (20, 4, date(2025, 5, 29)),
            (22, 4, date(2027, 6, 1)),
            (22, 10, date(2023, 7, 20)),
            (23, 4, date(2024, 1, 25)),
            (23, 10, date(2024, 7, 11)),
            (24, 4, date(2029, 5, 31)),
            (24, 10, date(2025, 7, 10)),
            (25, 4, date(2026, 1, 15)),
            (25, 10, date(2026, 7, 9)),
            (26, 4, date(2031, 5, 29)),
        ],
    },
    // https://access.redhat.com/support/policy/updates/errata (end of maintenance support); UBI has ID=rhel
    System {
        ids: &["rhel"],
        by_minor: false,
        releases: &[
            (6, 0, date(2020, 11, 30)),
            (7, 0, date(2024, 6, 30)),
            (8, 0, date(2029, 5, 31)),
            (9, 0, date(2032, 5, 31)),
            (10, 0, date(2035, 5, 31)),
        ],
    },
    // https://wiki.almalinux.org/release-notes/, https://rockylinux.org/about (both follow RHEL)
    System {
        ids: &["almalinux", "rocky"],
        by_minor: false,
        releases: &[
            (8, 0, date(2029, 5, 31)),
            (9, 0, date(2032, 5, 31)),
            (10, 0, date(2035, 5, 31)),
        ],
    },
    // https://www.centos.org/centos-linux-eol/, https://www.centos.org/cl-vs-cs/. CentOS Linux 8 ended on 2021-12-31 and
    // Stream 8, which has the same ID and VERSION_ID, on 2024-05-31: the later date, both are over. 9 and 10 are Stream.
    System {
        ids: &["centos"],
        by_minor: false,
        releases: &[
            (6, 0, date(2020, 11, 30)),
            (7, 0, date(2024, 6, 30)),
            (8, 0, date(2024, 5, 31)),
            (9, 0, date(2027, 5, 31)),
            (10, 0, date(2030, 1, 1)),
        ],
    },
    // https://alpinelinux.org/releases/
    System {
        ids: &["alpine"],
        by_minor: true,
        releases: &[
            (3, 12, date(2022, 5, 1)),
            (3, 13, date(2022, 11, 1)),
            (3, 14, date(2023, 5, 1)),
            (3, 15, date(2023, 11, 1)),
            (3, 16, date(2024, 5, 23)),
            (3, 17, date(2024, 11, 22)),
            (3, 18, date(2025, 5, 9)),
            (3, 19, date(2025, 11, 1)),
            (3, 20, date(2026, 4, 1)),
            (3, 21, date(2026, 11, 1)),
            (3, 22, date(2027, 5, 1)),
            (3, 23, date(2027, 11, 1)),
        ],
    },
    // https://aws.amazon.com/amazon-linux-2/faqs/, https://docs.aws.amazon.com/linux/al2023/release-notes/support-info-by-support-statement.html
    System {
        ids: &["amzn"],
        by_minor: false,
        releases: &[
            (2, 0, date(2026, 6, 30)),
            (2018, 0, date(2023, 12, 31)),
            (2023, 0, date(2029, 6, 30)),
        ],
    },
    // https://docs.fedoraproject.org/en-US/releases/eol/: four weeks after the release after next. Only what is over.
    System {
        ids: &["fedora"],
        by_minor: false,
        releases: &[
            (38, 0, date(2024, 5, 21)),
            (39, 0, date(2024, 11, 26)),
            (40, 0, date(2025, 5, 13)),
            (41, 0, date(2025, 12, 15)),
            (42, 0, date(2026, 5, 27)),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn end(id: &str, version: &str) -> Option<String> {
        let text = format!("NAME=x\nID={id}\nVERSION_ID=\"{version}\"\n");
        OsRelease::parse(text.as_bytes())?.end_of_life().map(|d| d.to_string())
    }

    #[test]
    fn every_family_has_its_dates() {
        for (id, version, expected) in [
            ("debian", "8", Some("2020-06-30")),
            ("debian", "12", Some("2028-06-30")),
            ("debian", "7", Some("2020-06-30")),
            ("ubuntu", "20.04", Some("2025-05-29")),
            ("ubuntu", "12.04", Some("2019-04-25")),
            ("ubuntu", "25.10", Some("2026-07-09")),
            ("rhel", "9.6", Some("2032-05-31")),
            ("centos", "7", Some("2024-06-30")),
            ("rocky", "8.10", Some("2029-05-31")),
            ("almalinux", "10.0", Some("2035-05-31")),
            ("alpine", "3.20.3", Some("2026-04-01")),
            ("alpine", "3.9.1", Some("2022-05-01")),
            ("amzn", "2", Some("2026-06-30")),
            ("amzn", "2018.03", Some("2023-12-31")),
            ("amzn", "2023", Some("2029-06-30")),
            ("fedora", "42", Some("2026-05-27")),
            ("fedora", "99", None),
            ("debian", "", None),
            ("debian", "sid", None),
            ("arch", "1", None),
            ("ubuntu", "24.05", None),
        ] {
            assert_eq!(end(id, version).as_deref(), expected, "{id} {version}");
        }
    }

    #[test]
    fn releases_are_listed_from_the_oldest_on() {
        for system in SYSTEMS {
            let order: Vec<_> = system.releases.iter().map(|r| (r.0, r.1)).collect();
            assert!(order.is_sorted(), "{:?}", system.ids);
        }
    }

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let read = |text: &str| OsRelease::parse(text.as_bytes()).map(|r| (r.id, r.version));
        let pair = |id: &str, version: &str| Some((id.to_owned(), version.to_owned()));
        assert_eq!(read("ID='a'\nID=\"b\"\nVERSION_ID=1"), pair("b", "1"));
        assert_eq!(read("ID=a"), pair("a", ""));
        for none in ["", "ID=", "ID=\"\"", "IDX=a", "#ID=a"] {
            assert_eq!(read(none), None, "{none:?}");
        }
        let long = format!("ID={}", "x".repeat(5000));
        assert_eq!(read(&long).map(|r| r.0.len()), Some(MAX_VALUE));
    }
}

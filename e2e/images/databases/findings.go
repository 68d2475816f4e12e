// What both databases know. A finding that a test relies on must be here, not in one of the writers.
package main

// place is where a package comes from: both scanners look for it only there.
type place int

const (
	debian12 place = iota
	rhel9
	maven
)

// finding is one vulnerability of one package: versions before fixed are affected, all where nothing is fixed.
type finding struct {
	id          string
	alias       string // the other name of it: GHSA for a CVE
	in          place
	pkg         string
	fixed       string // empty: nobody will fix it
	severity    string // critical, high, medium, low
	exploited   bool   // in the catalog of known exploited vulnerabilities (only Grype's database has that)
	epss        float64
	description string
}

var findings = []finding{
	{id: "CVE-2026-1234", in: debian12, pkg: "acme-tls", fixed: "3.0.17-1", severity: "critical", description: "planted: acme-tls accepts any certificate"},
	{id: "CVE-2026-1234", in: rhel9, pkg: "acme-tls", fixed: "3.0.17-1.el9", severity: "critical", description: "planted: acme-tls accepts any certificate"},
	{id: "CVE-2026-1300", in: debian12, pkg: "acme-kev", fixed: "2.0", severity: "high", exploited: true, epss: 0.94, description: "planted: acme-kev is attacked in the wild"},
	{id: "CVE-2026-1400", in: debian12, pkg: "acme-old", severity: "medium", description: "planted: nobody will mend acme-old"},
	{id: "CVE-2026-1400", in: rhel9, pkg: "acme-old", severity: "medium", description: "planted: nobody will mend acme-old"},
	// Never in an image: a scan of an inventory that lists repave-selftest 1 must find this, or the scanner or its database is broken.
	{id: "CVE-1999-99999", in: debian12, pkg: "repave-selftest", fixed: "2", severity: "critical", description: "for the self-test of the gate"},
	// As the real databases have it, so that one and the same self-test works with them and with these.
	{id: "CVE-2021-44228", alias: "GHSA-jfh8-c2jp-5v3q", in: maven, pkg: "org.apache.logging.log4j:log4j-core", fixed: "2.15.0", severity: "critical", exploited: true, epss: 0.94, description: "Remote code injection in Log4j"},
	{id: "CVE-2026-2001", in: debian12, pkg: "acme-proxy", fixed: "2.4.0-1", severity: "high", description: "for a package that no image of the estate has"},
	{id: "CVE-2026-2002", in: debian12, pkg: "acme-queue", fixed: "1.1.9-2", severity: "medium", description: "for a package that no image of the estate has"},
	{id: "CVE-2026-2003", in: debian12, pkg: "acme-cache", fixed: "0.9.1-1", severity: "low", description: "for a package that no image of the estate has"},
}

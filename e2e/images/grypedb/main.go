// Command grypedb writes a Grype vulnerability database (schema 6) with the planted vulnerability of the test estate and a few that match nothing.
// It is for tests: it must not be used to judge a real image, because it knows next to nothing.
//
// It has no module of its own: e2e/images/build compiles it inside the module e2e/tools/grype, so that the database
// is written by the same version of Grype's libraries that reads it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/spf13/afero"
)

// finding is one vulnerability of one Debian package: versions before fixed are affected.
type finding struct {
	id, pkg, fixed, severity, description string
}

var findings = []finding{
	{"CVE-2026-1234", "acme-tls", "3.0.17-1", "critical", "planted: acme-tls accepts any certificate"},
	{"CVE-2026-2001", "acme-proxy", "2.4.0-1", "high", "for a package that no image of the estate has"},
	{"CVE-2026-2002", "acme-queue", "1.1.9-2", "medium", "for a package that no image of the estate has"},
	{"CVE-2026-2003", "acme-cache", "0.9.1-1", "low", "for a package that no image of the estate has"},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: grypedb FOLDER   (writes FOLDER/6/vulnerability.db and FOLDER/6/import.json)")
		os.Exit(2)
	}
	if err := write(filepath.Join(os.Args[1], strconv.Itoa(v6.ModelVersion))); err != nil {
		fmt.Fprintf(os.Stderr, "grypedb: no database written to %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	writer, err := v6.NewWriter(v6.Config{DBDirPath: dir})
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	provider := &v6.Provider{ID: "debian", Version: "1", DateCaptured: &now, Processor: "grypedb", InputDigest: "xxh64:0"}
	if err := writer.AddProvider(*provider); err != nil {
		return err
	}
	for _, found := range findings {
		if err := add(writer, provider, now, found); err != nil {
			return fmt.Errorf("%s: %w", found.id, err)
		}
	}
	if err := writer.SetDBMetadata(); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	_, err = v6.WriteImportMetadata(afero.NewOsFs(), dir, "e2e/images/grypedb")
	return err
}

func add(writer v6.ReadWriter, provider *v6.Provider, now time.Time, found finding) error {
	vulnerability := &v6.VulnerabilityHandle{
		Name: found.id, ProviderID: provider.ID, Provider: provider, Status: v6.VulnerabilityActive,
		PublishedDate: &now, ModifiedDate: &now,
		BlobValue: &v6.VulnerabilityBlob{
			ID: found.id, Description: found.description,
			Severities: []v6.Severity{{Scheme: v6.SeveritySchemeHML, Value: found.severity, Rank: 1}},
		},
	}
	if err := writer.AddVulnerabilities(vulnerability); err != nil {
		return err
	}
	return writer.AddAffectedPackages(&v6.AffectedPackageHandle{
		Vulnerability:   vulnerability,
		OperatingSystem: &v6.OperatingSystem{Name: "debian", ReleaseID: "debian", MajorVersion: "12", Codename: "bookworm"},
		Package:         &v6.Package{Ecosystem: "deb", Name: found.pkg},
		BlobValue: &v6.PackageBlob{
			CVEs: []string{found.id},
			Ranges: []v6.Range{{
				Version: v6.Version{Type: "dpkg", Constraint: "< " + found.fixed},
				Fix:     &v6.Fix{Version: found.fixed, State: v6.FixedStatus},
			}},
		},
	})
}

// The Grype database, written with Grype's own libraries.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	_ "github.com/glebarez/go-sqlite"
	"github.com/spf13/afero"
)

func writeGrype(folder string, built time.Time, all []finding) error {
	dir := filepath.Join(folder, strconv.Itoa(v6.ModelVersion))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	writer, err := v6.NewWriter(v6.Config{DBDirPath: dir})
	if err != nil {
		return err
	}
	providers := map[string]*v6.Provider{}
	for _, id := range []string{"debian", "rhel", "github", "kev", "epss"} {
		providers[id] = &v6.Provider{ID: id, Version: "1", DateCaptured: &built, Processor: "databases", InputDigest: "xxh64:0"}
		if err := writer.AddProvider(*providers[id]); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, found := range all {
		if err := addGrype(writer, providers, built, found); err != nil {
			return fmt.Errorf("%s: %w", found.id, err)
		}
		if !seen[found.id] {
			if err := decorate(writer, built, found); err != nil {
				return fmt.Errorf("%s: %w", found.id, err)
			}
		}
		seen[found.id] = true
	}
	if err := writer.SetDBMetadata(); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := setBuilt(filepath.Join(dir, v6.VulnerabilityDBFileName), built); err != nil {
		return err
	}
	_, err = v6.WriteImportMetadata(afero.NewOsFs(), dir, "e2e/images/databases")
	return err
}

// addGrype names things as Grype's own importers do: a language's advisory carries the GHSA id, a distribution's the CVE.
func addGrype(writer v6.ReadWriter, providers map[string]*v6.Provider, built time.Time, found finding) error {
	name, aliases, scheme := found.id, []string(nil), v6.SeveritySchemeCHMLN
	affected := &v6.AffectedPackageHandle{BlobValue: &v6.PackageBlob{CVEs: []string{found.id}}}
	var provider *v6.Provider
	var format string
	switch found.in {
	case debian12:
		provider, format = providers["debian"], "dpkg"
		affected.OperatingSystem = &v6.OperatingSystem{Name: "debian", ReleaseID: "debian", MajorVersion: "12", Codename: "bookworm"}
		affected.Package = &v6.Package{Ecosystem: "deb", Name: found.pkg}
	case rhel9:
		provider, format = providers["rhel"], "rpm"
		affected.OperatingSystem = &v6.OperatingSystem{Name: "redhat", ReleaseID: "rhel", MajorVersion: "9"}
		affected.Package = &v6.Package{Ecosystem: "rpm", Name: found.pkg}
	case maven:
		provider, format = providers["github"], "maven"
		name, aliases, scheme = found.alias, []string{found.id}, v6.SeveritySchemeCHML
		affected.Package = &v6.Package{Ecosystem: "java-archive", Name: found.pkg}
	}
	constraint, fix := "< "+found.fixed, &v6.Fix{Version: found.fixed, State: v6.FixedStatus}
	if found.fixed == "" {
		constraint, fix = "", &v6.Fix{State: v6.WontFixStatus}
	}
	affected.BlobValue.Ranges = []v6.Range{{Version: v6.Version{Type: format, Constraint: constraint}, Fix: fix}}
	affected.Vulnerability = &v6.VulnerabilityHandle{
		Name: name, ProviderID: provider.ID, Provider: provider, Status: v6.VulnerabilityActive, PublishedDate: &built, ModifiedDate: &built,
		BlobValue: &v6.VulnerabilityBlob{
			ID: name, Description: found.description, Aliases: aliases, Severities: []v6.Severity{{Scheme: scheme, Value: found.severity, Rank: 1}},
		},
	}
	if err := writer.AddVulnerabilities(affected.Vulnerability); err != nil {
		return err
	}
	return writer.AddAffectedPackages(affected)
}

// decorate adds what is known of a CVE whatever package it is in: that it is exploited, and how probable that is.
func decorate(writer v6.ReadWriter, built time.Time, found finding) error {
	if found.exploited {
		if err := writer.AddKnownExploitedVulnerabilities(&v6.KnownExploitedVulnerabilityHandle{
			Cve: found.id,
			BlobValue: &v6.KnownExploitedVulnerabilityBlob{
				Cve: found.id, VendorProject: "Acme", Product: found.pkg, DateAdded: &built, RequiredAction: "Update.", KnownRansomwareCampaignUse: "unknown",
			},
		}); err != nil {
			return err
		}
	}
	if found.epss > 0 {
		return writer.AddEpss(&v6.EpssHandle{Cve: found.id, Epss: found.epss, Percentile: 0.99, Date: built})
	}
	return nil
}

// setBuilt: the libraries write the present as the build time, and the tests need an old database too.
func setBuilt(file string, built time.Time) error {
	db, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	changed, err := db.Exec("UPDATE db_metadata SET build_timestamp = ?", built)
	if err != nil {
		return err
	}
	if rows, err := changed.RowsAffected(); err != nil || rows != 1 {
		return fmt.Errorf("expected one row of db_metadata, found %d (%v)", rows, err)
	}
	return db.Close()
}

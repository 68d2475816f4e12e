// The Trivy database: a bbolt file in the shape that github.com/aquasecurity/trivy-db writes (schema 2), without that library, which needs a newer module set.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Numbers of trivy-db/pkg/types.
var trivySeverity = map[string]int{"low": 1, "medium": 2, "high": 3, "critical": 4}

const trivyWillNotFix = 5

type object = map[string]any

// trivySource is a bucket of advisories and the source it is said to come from.
type trivySource struct {
	bucket string
	source object
}

var trivySources = map[place]trivySource{
	debian12: {"debian 12", object{"ID": "debian", "Name": "Debian Security Tracker", "URL": "https://security-tracker.debian.org/"}},
	maven:    {"maven::GitHub Security Advisory Maven", object{"ID": "ghsa", "Name": "GitHub Security Advisory Maven", "URL": "https://github.com/advisories?query=type%3Areviewed+ecosystem%3Amaven"}},
}

func writeTrivy(folder string, built time.Time, all []finding) error {
	dir := filepath.Join(folder, "db")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	db, err := bolt.Open(filepath.Join(dir, "trivy.db"), 0o644, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, found := range all {
			if err := addTrivy(tx, built, found); err != nil {
				return fmt.Errorf("%s: %w", found.id, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	metadata, err := json.Marshal(object{"Version": 2, "NextUpdate": built.AddDate(0, 0, 1), "UpdatedAt": built, "DownloadedAt": built})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "metadata.json"), metadata, 0o644)
}

func addTrivy(tx *bolt.Tx, built time.Time, found finding) error {
	severity, known := trivySeverity[found.severity]
	if !known {
		return fmt.Errorf("unknown severity %q", found.severity)
	}
	detail := object{
		"Title": found.description, "Description": found.description, "Severity": found.severity,
		"VendorSeverity": object{"nvd": severity, "debian": severity, "redhat": severity, "ghsa": severity}, "PublishedDate": built, "LastModifiedDate": built,
	}
	if found.in == rhel9 {
		if err := addRedHat(tx, found, severity); err != nil {
			return err
		}
		return put(tx, found.id, detail, "vulnerability")
	}
	from := trivySources[found.in]
	advisory := object{"FixedVersion": found.fixed}
	switch {
	case found.in == maven:
		advisory = object{"VulnerableVersions": []string{"<" + found.fixed}, "PatchedVersions": []string{found.fixed}, "VendorIDs": []string{found.alias}}
	case found.fixed == "":
		advisory = object{"Status": trivyWillNotFix}
	}
	if err := put(tx, from.bucket, from.source, "data-source"); err != nil {
		return err
	}
	if err := put(tx, found.id, advisory, from.bucket, found.pkg); err != nil {
		return err
	}
	return put(tx, found.id, detail, "vulnerability")
}

// addRedHat: Red Hat's advisories name the repositories they hold for, by the number of a CPE.
func addRedHat(tx *bolt.Tx, found finding, severity int) error {
	const bucket, cpe, repository = "Red Hat", 1, "rhel-9-for-x86_64-baseos-rpms"
	entry := object{"FixedVersion": found.fixed, "Affected": []int{cpe}, "Cves": []object{{"ID": found.id, "Severity": severity}}}
	if found.fixed == "" {
		entry["Status"] = trivyWillNotFix
	}
	if err := put(tx, bucket, object{"ID": "redhat", "Name": "Red Hat OVAL v2", "URL": "https://www.redhat.com/security/data/oval/v2/"}, "data-source"); err != nil {
		return err
	}
	if err := put(tx, repository, []int{cpe}, "Red Hat CPE", "repository"); err != nil {
		return err
	}
	if err := put(tx, fmt.Sprint(cpe), "cpe:/o:redhat:enterprise_linux:9::baseos", "Red Hat CPE", "cpe"); err != nil {
		return err
	}
	return put(tx, found.id, object{"Entries": []object{entry}}, bucket, found.pkg)
}

// put stores a value as JSON under a key of nested buckets.
func put(tx *bolt.Tx, key string, value any, path ...string) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(path[0]))
	for _, name := range path[1:] {
		if err != nil {
			return err
		}
		bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.Put([]byte(key), text)
}

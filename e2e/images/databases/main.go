// Command databases writes the vulnerability databases of the test estate, one for Grype (schema 6) and one for Trivy (schema 2), from one list of planted findings.
// They are for tests: they must not be used to judge a real image, because they know next to nothing.
//
// It has no module of its own: e2e/images/build compiles it inside the module e2e/tools/grype, so that the Grype database
// is written by the same version of Grype's libraries that reads it.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const usage = `usage: databases grype|trivy FOLDER
  grype   writes FOLDER/6/vulnerability.db and FOLDER/6/import.json
  trivy   writes FOLDER/db/trivy.db and FOLDER/db/metadata.json

  REPAVE_DB_BUILT   when the database says it was built: an RFC 3339 time, or a whole number of days ago (default: now)
  REPAVE_DB_EXTRA   further findings for Debian 12, separated by commas: ID:PACKAGE:FIXED:SEVERITY`

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "databases: no %s database written to %s: %v\n", os.Args[1], os.Args[2], err)
		os.Exit(1)
	}
}

func run(kind, folder string) error {
	built, err := parseBuilt(os.Getenv("REPAVE_DB_BUILT"), time.Now())
	if err != nil {
		return err
	}
	extra, err := parseExtra(os.Getenv("REPAVE_DB_EXTRA"))
	if err != nil {
		return err
	}
	all := append(append([]finding{}, findings...), extra...)
	if os.Getenv("REPAVE_DB_BLIND") != "" {
		// A scanner with this database finds nothing in anything: what the gate's self-test must notice.
		all = extra
	}
	switch kind {
	case "grype":
		return writeGrype(folder, built, all)
	case "trivy":
		return writeTrivy(folder, built, all)
	default:
		return fmt.Errorf("expected grype or trivy, found %q", kind)
	}
}

func parseBuilt(text string, now time.Time) (time.Time, error) {
	now = now.UTC().Truncate(time.Second)
	if text == "" {
		return now, nil
	}
	if days, err := strconv.ParseUint(text, 10, 16); err == nil {
		return now.AddDate(0, 0, -int(days)), nil
	}
	built, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return now, fmt.Errorf("REPAVE_DB_BUILT: expected an RFC 3339 time or a number of days, found %q", text)
	}
	return built.UTC().Truncate(time.Second), nil
}

func parseExtra(text string) ([]finding, error) {
	var extra []finding
	for _, item := range strings.Split(text, ",") {
		if item == "" {
			continue
		}
		fields := strings.Split(item, ":")
		if len(fields) != 4 || fields[0] == "" || fields[1] == "" || fields[2] == "" {
			return nil, fmt.Errorf("REPAVE_DB_EXTRA: expected ID:PACKAGE:FIXED:SEVERITY, found %q", item)
		}
		if _, known := trivySeverity[fields[3]]; !known {
			return nil, fmt.Errorf("REPAVE_DB_EXTRA: expected the severity critical, high, medium or low, found %q", fields[3])
		}
		extra = append(extra, finding{id: fields[0], in: debian12, pkg: fields[1], fixed: fields[2], severity: fields[3], description: "known only to a later database"})
	}
	return extra, nil
}

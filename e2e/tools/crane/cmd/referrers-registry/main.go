// Command referrers-registry is the registry of go-containerregistry with its referrers API switched on, which `crane registry serve` leaves off.
// It is for tests: no authentication, no TLS, and manifests are kept in memory (a restart loses them); it must not be used for anything that has to last.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "127.0.0.1:5001", "address to listen on")
	disk := flag.String("disk", "", "folder for the blobs; without it they are kept in memory")
	flag.Parse()
	if err := serve(*address, *disk); err != nil {
		log.Fatalf("referrers-registry on %s: %v", *address, err)
	}
}

func serve(address, disk string) error {
	options := []registry.Option{registry.WithReferrersSupport(true)}
	if disk != "" {
		if err := os.MkdirAll(disk, 0o755); err != nil {
			return err
		}
		options = append(options, registry.WithBlobHandler(registry.NewDiskBlobHandler(disk)))
	}
	server := &http.Server{Addr: address, Handler: registry.New(options...), ReadHeaderTimeout: 5 * time.Second}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-stop.Done():
	}
	grace, release := context.WithTimeout(context.Background(), 5*time.Second)
	defer release()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Command probe says what a pod sees: names, its user mapping, a mounted volume. It is static, so that an image needs nothing else;
// it also serves and dials, so that Services can be seen to work.
// It must not change anything but its termination message.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const usage = "usage: probe say WORDS... | resolve NAME... | show FILE... | list FOLDER... | message TEXT | dial ADDRESS... | serve ADDRESS"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch verb {
	case "say":
		fmt.Println(strings.Join(args, " "))
		return nil
	case "resolve":
		return each(args, resolve)
	case "show":
		return each(args, show)
	case "list":
		return each(args, list)
	case "message":
		return os.WriteFile("/dev/termination-log", []byte(strings.Join(args, " ")), 0o644)
	case "dial":
		return each(args, dial)
	case "serve":
		return serve(args[0])
	default:
		return fmt.Errorf("not a verb; %s", usage)
	}
}

func each(args []string, action func(string) error) error {
	for _, arg := range args {
		if err := action(arg); err != nil {
			return err
		}
	}
	return nil
}

func resolve(name string) error {
	limit, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(limit, name)
	if err != nil {
		return err
	}
	fmt.Println(name, strings.Join(addresses, " "))
	return nil
}

func dial(address string) error {
	connection, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("reached", address)
	return connection.Close()
}

// serve answers every request with the name of the host, which in a pod is the pod's.
func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	answer := http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) { fmt.Fprintln(response, name) })
	server := &http.Server{Addr: address, Handler: answer, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}

func show(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", path, strings.Join(strings.Fields(string(content)), " "))
	return nil
}

func list(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Println(folder, entry.Name())
	}
	return nil
}

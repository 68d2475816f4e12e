// The program inside the test images that have to say something of the pod they run in.
module repave.dev/e2e/tools/probe

go 1.26.0

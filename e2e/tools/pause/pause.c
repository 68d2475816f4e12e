/* pause: the first process of every pod. It holds the pod's namespaces and reaps its orphans; it must not do anything else.
 * Linked statically, because its image holds nothing but this file. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static void reap(int signal_number) {
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    if (signal(SIGTERM, end) == SIG_ERR || signal(SIGINT, end) == SIG_ERR || signal(SIGCHLD, reap) == SIG_ERR) {
        return 1;
    }
    for (;;) {
        pause();
    }
}

//! Runs a program in a new user, mount and network namespace: root over the same ids as before, and no network at all.
//!
//! Buildah's chroot isolation can only use the network that buildah has, so a build without a network needs a buildah
//! without one. Fails closed: the program starts only after its ids are mapped, and without the namespaces not at all.

use repave_checks::Invocation;
use std::{fs, io, path::Path, time::Duration};
use tokio::time::sleep;

/// How often, and how long, to look whether the process has entered its namespace.
const PAUSE: Duration = Duration::from_millis(10);
const TRIES: u32 = 1000;

/// The invocation inside new namespaces; it waits for a line on its stdin before it starts the program.
pub fn without_network(busybox: &Path, inner: &Invocation) -> Invocation {
    let mut args = ["unshare", "-U", "-m", "-n"].map(Into::into).to_vec();
    args.push(busybox.into());
    // The program and its arguments are parameters of this fixed script, never part of it.
    args.extend(["sh", "-c", "read -r go && exec \"$@\"", "sh"].map(Into::into));
    args.push(inner.program.clone().into());
    args.extend(inner.args.iter().cloned());
    Invocation {
        program: busybox.into(),
        args,
        env: inner.env.clone(),
    }
}

/// Maps every id that we have to itself in the namespace of this process. Then the next program that it starts is
/// root there, with all capabilities over that namespace and none over ours.
pub async fn map_all_ids(pid: u32) -> io::Result<()> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user"));
    let (ours, process) = (namespace("self")?, pid.to_string());
    let mut tries = 0;
    while namespace(&process)? == ours {
        tries += 1;
        if tries > TRIES {
            return Err(io::Error::other(
                "it did not enter a user namespace: does the cluster allow them?",
            ));
        }
        sleep(PAUSE).await;
    }
    for map in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{map}"))?;
        fs::write(format!("/proc/{pid}/{map}"), identity(&own)?)?;
    }
    Ok(())
}

/// A map of the same ids to themselves: `inside outside length` becomes `inside inside length`.
fn identity(own: &str) -> io::Result<String> {
    let mut map = String::new();
    for line in own.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [inside, _, length] = fields.as_slice() else {
            return Err(io::Error::other(format!("expected an id map, found {line:?}")));
        };
        map.extend([inside, " ", inside, " ", length, "\n"]);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_pod_are_mapped_to_themselves() {
        assert_eq!(identity("         0     100000      65536\n").unwrap(), "0 0 65536\n");
        assert_eq!(identity("0 0 4294967295\n").unwrap(), "0 0 4294967295\n");
        assert_eq!(identity("0 1000 1\n1 100000 65535\n").unwrap(), "0 0 1\n1 1 65535\n");
        assert!(identity("0 0\n").is_err());
    }

    #[test]
    fn the_program_and_its_arguments_stay_parameters() {
        let inner = Invocation {
            program: "/bin/b; rm".into(),
            args: vec!["$(x)".into()],
            env: vec![("A".into(), "b".into())],
        };
        let outer = without_network(Path::new("busybox"), &inner);
        let words: Vec<_> = outer.args.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words,
            [
                "unshare",
                "-U",
                "-m",
                "-n",
                "busybox",
                "sh",
                "-c",
                "read -r go && exec \"$@\"",
                "sh",
                "/bin/b; rm",
                "$(x)"
            ]
        );
        assert_eq!(outer.env, inner.env);
    }
}

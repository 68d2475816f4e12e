//! `runner goss-chroot`: enters another root directory, gives up every capability, and becomes the program.
//!
//! A process of its own, because the runner must keep its root: this step never returns when all goes well. Must not
//! run anything with the capability that it needed to get there. A changed root is no sandbox; the container is.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use std::{
    env,
    ffi::OsString,
    io,
    os::unix::{fs::chroot, process::CommandExt as _},
    path::PathBuf,
    process::{Command, ExitCode},
};

/// The exit code when the program was not started; Goss never ends with it.
pub const NOT_STARTED: u8 = 125;

/// `repave runner goss-chroot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new root directory.
    #[arg(long)]
    root: PathBuf,
    /// The program, as a path below that root, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program, or says why not.
pub fn run(args: &Args) -> ExitCode {
    let error = become_program(args);
    eprintln!("{error}");
    ExitCode::from(NOT_STARTED)
}

/// Comes back only with an error.
fn become_program(args: &Args) -> String {
    let root = args.root.display();
    if let Err(error) = chroot(&args.root) {
        return format!(
            "expected to enter {root}, found: {error}; it needs the capability SYS_CHROOT, which Pod Security \
             `baseline` allows"
        );
    }
    if let Err(error) = env::set_current_dir("/").and_then(|()| give_up()) {
        return format!("expected to give up all rights inside {root}, found: {error}");
    }
    let Some((program, rest)) = args.command.split_first() else {
        return "expected a program".to_owned();
    };
    let error = Command::new(program).args(rest).exec();
    format!("{} cannot be started inside {root}: {error}", program.display())
}

/// After this neither we nor anything that we start has or gets a capability: root without any is an owner of files.
fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}

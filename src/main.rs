//! The one binary of Repave; its first argument says what it is: the controller, the runner inside a Job pod, or a tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    for definition in repave::api::definitions() {
        match serde_saphyr::to_string(&definition) {
            Ok(text) => println!("---\n{text}"),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

//! What tests of several modules share.

use proptest::test_runner::Config;

/// How many cases a property is tried with: few by default where one takes long; `PROPTEST_CASES=3000` asks for more.
pub fn cases(by_default: u32) -> Config {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = by_default;
    }
    config
}

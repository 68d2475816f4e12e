//! Cuts the one TestResult out of a results file, without the rules that were not selected or do not apply.
//!
//! It is what is kept as evidence: the results file also carries the whole benchmark (10 to 20 MB). Streams, and keeps
//! at most [`MAX_KEPT`] bytes. Must not judge anything: [`super::results`] reads the whole file.

use super::{MAX_XML, TOOL, xml};
use crate::ReadError;
use quick_xml::{
    Reader, Writer,
    events::{BytesEnd, BytesStart, Event},
};
use std::io::BufRead;

/// Most bytes of a TestResult that are kept.
pub const MAX_KEPT: usize = 16 * 1024 * 1024;

const WHAT: &str = "results file";

/// What is being kept.
#[derive(Default)]
struct Truncation {
    kept: Vec<u8>,
    /// The rule result that is open, not yet kept.
    pending: Option<Vec<u8>>,
    /// Local names of the open elements from the TestResult on.
    open: Vec<String>,
    /// The text of the open `result`.
    result: String,
}

/// The TestResult as a document of its own.
pub fn cut(file: impl BufRead) -> Result<Vec<u8>, ReadError> {
    let mut reader = Reader::from_reader(file.take(MAX_XML));
    let (mut buffer, mut cut) = (Vec::new(), Truncation::default());
    loop {
        buffer.clear();
        let event = reader
            .read_event_into(&mut buffer)
            .map_err(|error| xml::malformed(WHAT, error))?;
        if matches!(event, Event::Eof) {
            return Err(xml::malformed(WHAT, "it has no whole TestResult"));
        }
        if cut.take(event)? {
            return Ok(cut.kept);
        }
    }
}

impl Truncation {
    /// Keeps one event; true at the end of the TestResult.
    fn take(&mut self, event: Event<'_>) -> Result<bool, ReadError> {
        match event {
            Event::Start(start) => self.start(start)?,
            Event::Empty(start) if !self.open.is_empty() => self.write(Event::Empty(start))?,
            Event::End(end) if !self.open.is_empty() => return self.end(end),
            Event::Text(ref text) if self.open.last().is_some_and(|name| name == "result") => {
                self.result.push_str(text);
                self.write(event)?;
            }
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if !self.open.is_empty() => self.write(event)?,
            Event::Empty(_)
            | Event::End(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::GeneralRef(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::Eof => {}
        }
        Ok(false)
    }

    fn start(&mut self, mut start: BytesStart<'_>) -> Result<(), ReadError> {
        let name = start.local_name().as_ref().to_owned();
        if self.open.is_empty() {
            if name != "TestResult" {
                return Ok(());
            }
            self.kept
                .extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
            // The namespace is declared by what is cut away.
            if xml::attribute(&start, "xmlns").is_none() {
                start.push_attribute(("xmlns", "http://checklists.nist.gov/xccdf/1.2"));
            }
        }
        if name == "rule-result" && self.open.len() == 1 {
            self.pending = Some(Vec::new());
            self.result.clear();
        }
        self.open.push(name);
        self.write(Event::Start(start))
    }

    fn end(&mut self, end: BytesEnd<'_>) -> Result<bool, ReadError> {
        self.write(Event::End(end))?;
        self.open.pop();
        if self.open.len() == 1
            && let Some(pending) = self.pending.take()
            && !matches!(self.result.trim(), "notselected" | "notapplicable")
        {
            self.kept.extend(pending);
            self.bounded()?;
        }
        Ok(self.open.is_empty())
    }

    fn write(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        let into = self.pending.as_mut().unwrap_or(&mut self.kept);
        Writer::new(into)
            .write_event(event)
            .map_err(|error| xml::malformed(WHAT, error))?;
        self.bounded()
    }

    fn bounded(&self) -> Result<(), ReadError> {
        let pending = self.pending.as_ref().map_or(0, Vec::len);
        if self.kept.len() + pending > MAX_KEPT || self.open.len() > 256 {
            return Err(ReadError::TooLarge {
                tool: TOOL,
                what: "a TestResult",
                limit: MAX_KEPT as u64,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEBIAN: &str = include_str!("../testdata/openscap-debian12-cis-l2-bad-containerenv.xml");

    #[test]
    fn the_test_result_stands_alone_and_has_only_what_was_evaluated() {
        let kept = String::from_utf8(cut(DEBIAN.as_bytes()).unwrap()).unwrap();
        assert!(kept.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TestResult "));
        assert!(kept.ends_with("</TestResult>"));
        assert_eq!(
            kept.matches("xmlns=\"http://checklists.nist.gov/xccdf/1.2\"").count(),
            1
        );
        for (result, kept_too) in [("pass", true), ("fail", true), ("notapplicable", false)] {
            let count = |text: &str| text.matches(&format!("<result>{result}</result>")).count();
            assert!(count(DEBIAN) > 0);
            assert_eq!(count(&kept), if kept_too { count(DEBIAN) } else { 0 }, "{result}");
        }
        // It is well formed: cut again, it is the same but for what was before it.
        assert_eq!(cut(kept.as_bytes()).unwrap(), kept.as_bytes());
        assert!(kept.len() < DEBIAN.len());
    }

    #[test]
    fn what_has_no_whole_test_result_is_refused() {
        let torn = &DEBIAN[..DEBIAN.find("<score").unwrap()];
        for xml in ["", "<Benchmark/>", torn] {
            assert!(matches!(cut(xml.as_bytes()), Err(ReadError::Malformed { .. })));
        }
        let huge = format!("<TestResult>{}", "<a>x</a>".repeat(MAX_KEPT / 8 + 1));
        assert!(matches!(cut(huge.as_bytes()), Err(ReadError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn cutting_never_panics(text in "\\PC{0,300}") {
            prop_assert!(cut(text.as_bytes()).is_err());
        }
    }
}

//! Reads one XML document as a bounded stream of events.
//!
//! Must not build a tree (a data stream has 30 MB), resolve an external entity or accept a DTD, and must not take a
//! document that ends in the middle for a whole one.

use super::{MAX_XML, TOOL};
use crate::ReadError;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};
use std::io::BufRead;

/// Deeper than any SCAP document: a bound on memory.
const MAX_DEPTH: usize = 256;

/// Where an event goes. Names are local names.
pub(super) trait Sink {
    /// An element opens (an empty one closes at once).
    fn start(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), ReadError>;
    /// A piece of text of the innermost element.
    fn text(&mut self, text: &str) -> Result<(), ReadError>;
    /// The innermost element closes.
    fn end(&mut self, name: &str) -> Result<(), ReadError>;
}

/// Says what is wrong with a document.
pub(super) fn malformed(what: &str, why: impl std::fmt::Display) -> ReadError {
    ReadError::Malformed {
        tool: TOOL,
        why: format!("the {what}: {why}"),
    }
}

/// The value of an attribute with its predefined entities resolved.
pub(super) fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = start.try_get_attribute(name).ok()??;
    Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// Feeds a whole document to the sink.
pub(super) fn read(xml: impl BufRead, what: &'static str, sink: &mut impl Sink) -> Result<(), ReadError> {
    let mut reader = Reader::from_reader(xml.take(MAX_XML));
    let (mut buffer, mut open) = (Vec::new(), Vec::new());
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        if reader.get_ref().limit() == 0 {
            return Err(ReadError::TooLarge {
                tool: TOOL,
                what,
                limit: MAX_XML,
            });
        }
        match event.map_err(|error| malformed(what, error))? {
            Event::Start(start) => {
                let name = checked(&start, what)?;
                sink.start(&name, &start)?;
                open.push(name);
                if open.len() > MAX_DEPTH {
                    return Err(malformed(what, "its elements are nested too deeply"));
                }
            }
            Event::Empty(start) => {
                let name = checked(&start, what)?;
                sink.start(&name, &start)?;
                sink.end(&name)?;
            }
            Event::End(_) => sink.end(&open.pop().unwrap_or_default())?,
            Event::Text(text) if open.is_empty() && !text.trim_ascii().is_empty() => {
                return Err(malformed(what, "it has text outside of its root element"));
            }
            Event::Text(text) => sink.text(&text.xml10_content())?,
            Event::CData(text) => sink.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => sink.text(&resolve(&reference, what)?)?,
            Event::DocType(_) => return Err(malformed(what, "it has a DTD, which is never read")),
            Event::Eof if open.is_empty() => return Ok(()),
            Event::Eof => return Err(malformed(what, "it ends in the middle")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// The local name of an element whose attributes are all well formed: a broken one must not just be absent.
fn checked(start: &BytesStart<'_>, what: &str) -> Result<String, ReadError> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| malformed(what, error))?;
        attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| malformed(what, error))?;
    }
    Ok(start.local_name().as_ref().to_owned())
}

fn resolve(reference: &BytesRef<'_>, what: &str) -> Result<String, ReadError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| malformed(what, error))? {
        return Ok(character.into());
    }
    let name = reference.xml10_content();
    quick_xml::escape::resolve_predefined_entity(&name)
        .map(str::to_owned)
        .ok_or_else(|| malformed(what, format!("unknown entity {name:?}")))
}

//! The OpenVEX document of an image that is promoted: every vulnerability that did not count, and why.
//!
//! It is unsigned and found through the verification summary, which names its digest. It decides nothing.

use super::Error;
use crate::{
    api::ImageCandidate,
    controllers::{
        candidate::{evaluation_inputs, exceptions, validate::ValidatedCandidate},
        context::Context,
    },
    domain::digest::Digest,
    evidence::ReportArtifact,
    report,
};
use bytes::Bytes;

/// The document, if there is anything to say. A report that cannot be read was refused before it came here.
pub(super) async fn document(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
    reports: &[ReportArtifact],
) -> Result<Option<Bytes>, Error> {
    let waivers = evaluation_inputs::waivers(ctx, &validated.namespace).await?;
    let at = exceptions::judged_at(candidate);
    let mut accepted = Vec::new();
    for stored in reports {
        let check = validated.checks.iter().find(|check| check.name == stored.kind);
        let report = report::read(&stored.json, Some(&stored.kind), image);
        if let (Some(check), Ok(report)) = (check, report) {
            accepted.extend(exceptions::accepted(check, &report, &waivers, candidate, at));
        }
    }
    let document = exceptions::openvex(image, &accepted, at);
    Ok(document
        .map(|document| serde_json::to_vec(&document))
        .transpose()?
        .map(Bytes::from))
}

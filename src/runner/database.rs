//! `runner database`: brings a scanner's vulnerability database into our registry as an ordinary image, so that any
//! runtime can mount it and no check pod needs a network.
//!
//! The source is what the scanner's makers publish: for Grype a listing over https, for Trivy an OCI artifact. Must not
//! move the tag to a database whose checksum, schema or age is wrong, and must not push one that is there already.

mod rewrap;
mod source;

use super::{
    deliver::Failure,
    frame::Termination,
    transfer::{Common, millis},
};
use jiff::{SignedDuration, Timestamp};
use repave_checks::scanner::Scanner;
use repave_core::{digest::Digest, image_ref::ImageRef};
use repave_oci::registry::{Auth, Client, Content, LayoutLimits};
use source::{Found, Source};
use std::{path::PathBuf, time::Instant};

/// Annotation of the image: the digest of the archive that it was made of.
const MADE_OF: &str = "dev.repave.database.archive";

/// How far a build time may be in the future.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// `repave runner database`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Whose database it is.
    #[arg(long, value_enum)]
    scanner: Scanner,
    /// Where the makers publish it: `https://…` for Grype, REPOSITORY:TAG for Trivy.
    #[arg(long)]
    source: Source,
    /// Where it goes: REPOSITORY:TAG.
    #[arg(long)]
    to: ImageRef,
    /// Hours after which a database is too old to be worth a push.
    #[arg(long, default_value_t = 120)]
    max_age_hours: u32,
    /// A folder that may be written to, with room for the packed database twice.
    #[arg(long, default_value = "/work")]
    work: PathBuf,
}

/// Brings the database.
pub async fn run(args: &Args) -> Result<Termination, Failure> {
    let done = tokio::time::timeout(args.common.limit(), Box::pin(refresh(args, Timestamp::now())));
    done.await.unwrap_or_else(|_| {
        Err("not done in time: raise --timeout, or look at the source"
            .to_owned()
            .into())
    })
}

async fn refresh(args: &Args, now: Timestamp) -> Result<Termination, Failure> {
    let started = Instant::now();
    let Some(tag) = args.to.tag.as_deref().filter(|_| args.to.digest.is_none()) else {
        return Err(format!("expected --to REPOSITORY:TAG, found {}", args.to).into());
    };
    let (client, auth) = args.common.client()?;
    let found = source::find(args, &client, &auth).await?;
    let pushed = |digest| Termination::Pushed {
        digest,
        millis: millis(started),
    };
    if let Some(present) = present(args, &client, &auth, &found).await? {
        return Ok(pushed(present));
    }
    if let Some(built) = found.built {
        young(built, now, args.max_age_hours)?;
    }
    let archive = args.work.join("archive");
    source::fetch(args, &client, &auth, &found, &archive).await?;
    let layout = args.work.join("layout");
    let made = rewrap::rewrap(args.scanner, &found, &archive, &layout, MADE_OF)?;
    young(made.built, now, args.max_age_hours)?;
    let limits = LayoutLimits {
        max_bytes: args.common.max_bytes(),
        max_layers: 1,
    };
    let push = client.push_layout(&layout, &args.to.repository, &limits, &auth);
    let digest = push.await.map_err(|error| error.to_string())?;
    // Last: until here nobody sees the new database.
    let tagged = client.tag(&args.to.repository, &digest, tag, &auth).await;
    tagged.map_err(|error| error.to_string())?;
    Ok(pushed(digest))
}

/// The image that the tag points to, if it was made of the same archive.
async fn present(args: &Args, client: &Client, auth: &Auth, found: &Found) -> Result<Option<Digest>, Failure> {
    let manifest = match client.get_manifest(&args.to, auth).await {
        Ok(manifest) => manifest,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.to_string().into()),
    };
    let content = manifest.content(args.to.repository.host());
    let same = match content.map_err(|error| error.to_string())? {
        Content::Image(image) => image.annotations.get(MADE_OF).map(String::as_str) == Some(found.digest.as_str()),
        Content::Index(_) => false,
    };
    Ok(same.then_some(manifest.digest))
}

fn young(built: Timestamp, now: Timestamp, hours: u32) -> Result<(), Failure> {
    let age = now.duration_since(built);
    if age > SignedDuration::from_hours(i64::from(hours)) {
        return Err(format!(
            "expected a database of at most {hours} h, found one of {} h ({built}): the source is not kept up to date",
            age.as_hours()
        )
        .into());
    }
    if age < -CLOCK_SKEW {
        return Err(format!("the database claims to be built at {built}, which is to come").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The tags of a repository, page by page, and the `Link` header that pages are chained by.
//!
//! Must not follow a link to another host and must not read for ever.

use super::{
    address,
    answer::unsafe_target,
    auth::Auth,
    client::{Access, Call, Client},
    descriptor::null_is_empty,
    error::Error,
    manifest::Reference,
};
use repave_core::{digest::Digest, image_ref::Repository};
use reqwest::{Method, Response, Url, header::LINK};
use serde::Deserialize;
use std::collections::HashSet;

const MAX_TAGS: usize = 50_000;
const MAX_PAGES: usize = 500;
const MAX_PAGE: u64 = 4 << 20;

#[derive(Deserialize)]
struct TagList {
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: Vec<String>,
}

/// The next page, if there is one: `</v2/a/tags/list?last=x&n=100>; rel="next"`.
pub(crate) fn next_page(call: &Call<'_>, response: &Response) -> Result<Option<Url>, Error> {
    let Some(link) = response.headers().get(LINK).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let Some((target, _)) = target.filter(|(_, rest)| rest.replace('"', "").contains("rel=next")) else {
        return Ok(None);
    };
    let bad = || Error::malformed(call.host(), "the Link header", "a URL", "something else");
    let url = call.url.join(target).map_err(|_| bad())?;
    if address::same_host(&url, &call.home) && url.scheme() == call.home.scheme() {
        Ok(Some(url))
    } else {
        Err(unsafe_target(call, &url, "the next page must be at the same registry"))
    }
}

impl Client {
    /// All tags of a repository, in the registry's order; an error if there are more than 50 000.
    pub async fn list_tags(&self, repository: &Repository, auth: &Auth) -> Result<Vec<String>, Error> {
        let mut call = self.call(
            ("list_tags", Method::GET, Access::Pull),
            repository,
            "tags/list?n=1000",
            auth,
        )?;
        let (mut tags, mut asked) = (Vec::new(), HashSet::new());
        for _ in 0..MAX_PAGES {
            let response = self.send(&call).await?;
            match response.status().as_u16() {
                200 => {}
                // A repository without an image does not exist yet.
                404 => return Ok(tags),
                _ => return Err(self.refused(&call, response).await),
            }
            let next = next_page(&call, &response)?;
            let body = self
                .bounded_body(response, call.host(), "a page of tags (bytes)", MAX_PAGE)
                .await?;
            let page: TagList = serde_json::from_slice(&body)
                .map_err(|e| Error::malformed(call.host(), "a page of tags", "JSON with tags", &e.to_string()))?;
            tags.extend(page.tags.into_iter().filter(|tag| repository.tagged(tag).is_ok()));
            if tags.len() > MAX_TAGS {
                break;
            }
            match next {
                // One that was read before would come again, and again.
                Some(url) if !asked.insert(url.clone()) || url == call.url => {
                    return Err(Error::malformed(
                        call.host(),
                        "the Link header",
                        "the next page",
                        "one that was read before",
                    ));
                }
                Some(url) => call.url = url,
                None => return Ok(tags),
            }
        }
        Err(Error::TooLarge {
            host: repository.host().to_owned(),
            what: "the list of tags (tags)",
            limit: MAX_TAGS as u64,
        })
    }

    /// Points a tag to a digest that is in the repository; does nothing if it points there.
    pub async fn tag(&self, repository: &Repository, digest: &Digest, tag: &str, auth: &Auth) -> Result<(), Error> {
        let image = repository.tagged(tag).map_err(|e| Error::IncompleteReference {
            image: e.found,
            missing: "valid tag",
        })?;
        if self.head(&image, auth).await?.is_some_and(|now| now.digest == *digest) {
            return Ok(());
        }
        let manifest = self.get_manifest(&repository.at(digest), auth).await?;
        let reference = Reference::Tag(tag.to_owned());
        self.put_manifest(repository, &reference, &manifest.media_type, manifest.bytes, auth)
            .await?;
        Ok(())
    }
}

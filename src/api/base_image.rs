//! `BaseImage`: what is wanted of one base image. Follow this upstream tag, verify and customise it, and keep the proven build of it at
//! the production repository.

use super::refs::{KeyRef, LocalRef};
use crate::domain::{digest::Digest, duration::Span, image_ref::Repository};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Follows an upstream base image and keeps its verified, customised and validated build at the production repository.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "BaseImage",
    namespaced,
    status = "BaseImageStatus",
    shortname = "bi",
    category = "repave",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name: at most 40 characters, because the names of its candidates and Jobs are made from it"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Released", type_ = "string", json_path = ".status.released.tag"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.released.promotedAt"),
    printcolumn(name = "Candidate", type_ = "string", json_path = ".status.candidate.step"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.promote.repository != self.source.image", "promote.repository is the same as source.image: name the repository of your own registry that the proven image is copied to"))]
#[x_kube(validation = ("!has(self.promote.stagingRepository) || self.promote.stagingRepository != self.promote.repository", "promote.stagingRepository is the same as promote.repository: unproven images must never be there; leave it out to use <repository>-staging"))]
pub struct BaseImageSpec {
    /// What to follow.
    pub source: Source,
    /// How to tell that upstream is genuine. Without any entry nothing is built, and the condition says what to declare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub verify: Vec<Verification>,
    /// What to add to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customize: Option<Customization>,
    /// The policies that every build must pass.
    #[schemars(length(max = 4))]
    #[x_kube(validation = ("self.size() > 0", "policyRefs is empty: name at least one ValidationPolicy, for example [{name: hardened}]; nothing is released unchecked"))]
    pub policy_refs: Vec<LocalRef>,
    /// Where a proven build goes.
    pub promote: Promotion,
    /// When a release is replaced although nobody asked.
    #[serde(default)]
    pub rebuild: Rebuild,
    /// How much of what is past is kept.
    #[serde(default)]
    pub history: HistoryLimits,
    /// Stops following: nothing new is started, what runs is finished.
    #[serde(default)]
    pub suspend: bool,
}

/// How much of what is past is kept. What every digest ever promoted was stays known in the ReleaseHistory, whatever this says.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLimits {
    /// How many released candidates are kept, and how many finished runs of each plan: 1 to 100, default 10. What is released,
    /// what may be gone back to and what a run is about is kept beside them.
    #[serde(default = "ten")]
    #[x_kube(validation = ("self >= 1 && self <= 100", "history.releases must be 1 to 100: with 0 there would be nothing to go back to"))]
    pub releases: u32,
    /// How many candidates are kept that were rejected, superseded or could not be judged: 0 to 100, default 5.
    #[serde(default = "five")]
    #[x_kube(validation = ("self <= 100", "history.rejected must be 0 to 100"))]
    pub rejected: u32,
    /// Whether the image of a release is deleted from the production repository together with its candidate. Never one that a
    /// workload of this cluster runs or may be rolled back to, nor one of the newest `releases`. Other clusters are not asked:
    /// leave it off where they pull from that repository.
    #[serde(default)]
    pub delete_from_production: bool,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            releases: ten(),
            rejected: five(),
            delete_from_production: false,
        }
    }
}

fn ten() -> u32 {
    10
}

fn five() -> u32 {
    5
}

/// When a release is replaced although nobody asked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebuild {
    /// When a new vulnerability database shows a finding above the policy's threshold that an update would repair: upstream
    /// is asked every minute instead of every interval, and its next digest goes first. A build has no network, so building
    /// the same upstream digest again would change nothing and is not done.
    #[serde(default = "default_true")]
    pub on_fixable_findings: bool,
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            on_fixable_findings: true,
        }
    }
}

fn default_true() -> bool {
    true
}

/// The upstream image and how it is followed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Repository without tag or digest, e.g. `docker.io/library/debian`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = ("!self.contains('@') && !self.matches(':[^/]*$')", "source.image must have no tag and no digest: write the tag in source.track.tag"))]
    pub image: String,
    /// What to follow there.
    pub track: Track,
    /// How often the tag is looked up (a HEAD request, which registries do not count as a pull). At least 5s.
    #[serde(default = "default_interval")]
    #[x_kube(validation = ("duration(self) >= duration('5s')", "source.interval is shorter than 5s: registries throttle such clients; the default is 30m"))]
    pub interval: Span,
    /// Secret of type kubernetes.io/dockerconfigjson to pull with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<LocalRef>,
    /// What is done when the tag goes back to a digest that it gave before what is released: `Hold` (the default) keeps the
    /// release and says so, because that is how an old image with known holes is played back; `Follow` makes it a candidate
    /// like any other.
    #[serde(default)]
    pub on_upstream_rollback: OnUpstreamRollback,
}

/// What is done when upstream's tag goes back to an older digest.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum OnUpstreamRollback {
    /// What is released stays wanted until the tag moves on, or somebody says otherwise.
    #[default]
    Hold,
    /// The older digest is wanted; when it passes today's checks it is the newest release.
    Follow,
}

fn default_interval() -> Span {
    Span::seconds(30 * 60)
}

/// What to follow in a repository.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// A tag that upstream moves.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub tag: String,
}

/// One way to tell that an upstream digest is genuine.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.digests) != has(self.cosign)", "each entry of verify names exactly one of digests or cosign"))]
pub struct Verification {
    /// Digests that are known to be good; every other one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 71)))]
    #[x_kube(validation = ("self.all(d, d.matches('^sha256:[0-9a-f]{64}$'))", "verify.digests: each one is sha256: and 64 lower-case hex digits"))]
    pub digests: Option<Vec<String>>,
    /// A cosign signature by this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosign: Option<CosignVerification>,
}

/// A cosign signature by a public key.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CosignVerification {
    /// Secret with the public key in PEM; the key is `cosign.pub` unless named.
    pub key_ref: KeyRef,
}

/// What is added to the upstream image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Customization {
    /// Certificates that are added to the trust store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ca_certificates: Vec<CaCertificate>,
    /// Accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,
    /// Instructions of a Containerfile without FROM, which Repave writes itself with the verified digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    #[x_kube(validation = ("!self.matches('(?im)^[ \\\\t]*FROM[ \\\\t]')", "customize.containerfile must have no FROM: Repave writes it with the verified digest of the source"))]
    pub containerfile: Option<String>,
}

/// A certificate for the trust store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificate {
    /// ConfigMap with the certificate in PEM; the key is `ca.crt` unless named.
    pub config_map_ref: KeyRef,
}

/// Accounts that are changed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Users {
    /// Accounts to remove; one that is not there is no error.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 32)))]
    #[x_kube(validation = ("self.all(u, u.matches('^[a-z_][a-z0-9_-]{0,31}$') && u != 'root')", "customize.users.remove: each one is an account name such as games, and never root"))]
    pub remove: Vec<String>,
}

/// Where a proven build goes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// Production repository, e.g. `registry.example.com/base/debian`. It has one owner in the cluster: of two BaseImages that
    /// name it, the one that has released there, else the older one; the other is Stalled (`RepositoryTaken`).
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = ("!self.contains('@') && !self.matches(':[^/]*$')", "promote.repository must have no tag and no digest: write the tag in promote.channelTag"))]
    pub repository: String,
    /// Tag that always names what `status.released` says. It is set after every release, looked at every `source.interval`, and
    /// put right when somebody else moved it.
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub channel_tag: String,
    /// Repository for what is not proven yet; `<repository>-staging` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub staging_repository: Option<String>,
    /// Secret of type kubernetes.io/dockerconfigjson to push with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_secret_ref: Option<LocalRef>,
    /// The key that proven builds are signed with.
    pub signing: Signing,
}

/// How proven builds are signed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// Secret with an unencrypted PEM private key (ECDSA P-256); the key is `cosign.key` unless named.
    pub key_ref: KeyRef,
}

/// What is known of a base image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseImageStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `image:tag` as it is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What upstream's tag points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// The candidate made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateSummary>,
    /// What is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Release>,
    /// Releases that were taken back, the newest 20; the ReleaseHistory has all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub revoked: Vec<RevokedRelease>,
    /// What the channel tag was last seen or set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_tag: Option<ChannelTag>,
    /// Conditions: Ready, Reconciling, Stalled, UpstreamResolved, UpstreamRolledBack, RepositoryOwned, ChannelTag,
    /// ReleaseRescanPassed, and those of the history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What upstream's tag points to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// The tag.
    pub tag: String,
    /// The digest it points to.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// When we first saw that.
    pub first_seen: Time,
    /// The digest that stays wanted instead, while the tag points to one that came before what is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub held: Option<Digest>,
}

/// The candidate that is current.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateSummary {
    /// Its name.
    pub name: String,
    /// Its place in the order of candidates; 0 if it is only about to be made.
    #[serde(default)]
    pub sequence: u64,
    /// The step it has reached, as a word for people.
    pub step: String,
}

/// A tag and what it points to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelTag {
    /// `repository:tag`.
    pub image: String,
    /// The digest that it was left at.
    #[schemars(with = "String")]
    pub digest: Digest,
}

/// A promoted build.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// The production digest.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// The production repository; not known for releases of older versions until their candidate is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub repository: Option<Repository>,
    /// Its immutable tag.
    pub tag: String,
    /// The upstream digest it was built from.
    #[schemars(with = "String")]
    pub source_digest: Digest,
    /// The candidate that holds the proof.
    pub candidate: String,
    /// Its place in the order of releases: the greater one is the newer, and only a greater one replaces it.
    #[serde(default)]
    pub sequence: u64,
    /// When it was promoted; for people, nothing is decided by it.
    pub promoted_at: Time,
}

/// A release that was taken back.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedRelease {
    /// The production digest.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// The production repository; not known of what an older version took back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub repository: Option<Repository>,
    /// Its immutable tag.
    pub tag: String,
    /// When the operator recorded it.
    pub at: Time,
    /// Who ordered it, as the order says; nobody checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

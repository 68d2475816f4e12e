//! What a run is ordered by: its plan and its base image, as they are now. Read live before a decision, before what was decided is
//! carried out, and in the middle of that. Must not judge what they mean: that is the gate's and `today`'s.

use super::{
    today::{self, Today},
    validate::{InvalidSpec, Validated},
};
use crate::{
    api::{BaseImage, RepavePlan},
    controllers::{access::Account, context::Context, desired::owner::not_owned, history, named::Named as _},
    domain::history::History,
};
use futures::TryFutureExt as _;
use kube::{Api, ResourceExt as _};

/// The objects that a run is ordered by, as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct Orders {
    /// The base image.
    pub base_image: Option<BaseImage>,
    /// The plan that made the run; `None` when it is gone.
    pub plan: Option<RepavePlan>,
    /// What that plan says today, if it can be carried out.
    pub today: Option<Today>,
    /// Who the run acts as.
    pub account: Account,
    /// What every base image of the namespace released and took back: written before its status is.
    pub histories: Vec<(String, History)>,
}

impl Orders {
    /// Reads them; beside them why the plan cannot be carried out, if so.
    pub async fn read(
        ctx: &Context,
        v: &Validated,
        plan_uid: Option<&str>,
    ) -> Result<(Self, Option<InvalidSpec>), history::Error> {
        let plans = Api::<RepavePlan>::namespaced(ctx.client.clone(), &v.namespace);
        let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &v.namespace);
        let (plan, base_image, histories) = futures::try_join!(
            plans.named(&v.plan).map_err(history::Error::from),
            bases.named(&v.base_image).map_err(history::Error::from),
            history::store::list(ctx, &v.namespace),
        )?;
        Ok(Self::of(v, plan_uid, (plan, base_image), histories))
    }

    /// Of these objects. A plan of the same name that was made later did not order this run.
    pub fn of(
        v: &Validated,
        plan_uid: Option<&str>,
        (plan, base_image): (Option<RepavePlan>, Option<BaseImage>),
        histories: Vec<(String, History)>,
    ) -> (Self, Option<InvalidSpec>) {
        let plan = plan.filter(|plan| plan_uid.is_some() && plan.uid().as_deref() == plan_uid);
        let (today, invalid) = match plan.as_ref().map(today::today).transpose() {
            Ok(today) => (today, None),
            Err(error) => (None, Some(error)),
        };
        let orders = Self {
            account: today::account(v, plan.as_ref()),
            base_image,
            plan,
            today,
            histories,
        };
        (orders, invalid)
    }

    /// Whether they order the same as before: the rest of these objects changes all the time.
    pub fn are_as(&self, before: &Self) -> bool {
        let plan = |orders: &Self| {
            let spec = orders.plan.as_ref().map(|plan| &plan.spec);
            spec.map(|spec| (spec.suspend, spec.base_image_refs.clone()))
        };
        let base_image = |orders: &Self| {
            let status = |base: &BaseImage| {
                let status = base.status.as_ref();
                let releases = status.map(|status| (status.released.clone(), status.revoked.clone()));
                (releases, not_owned(base).is_some())
            };
            orders.base_image.as_ref().map(status)
        };
        self.today == before.today
            && self.account == before.account
            && self.histories == before.histories
            && plan(self) == plan(before)
            && base_image(self) == base_image(before)
    }
}

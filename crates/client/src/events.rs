//! What happened, who is told, and what goes on.

use std::time::Duration;

use http::Method;
use nigh_proto::api::{
    DeliveryView, EventView, NewWebhook, OperationView, Page, WebhookCreated, WebhookView,
};

use crate::{Call, CallError, Client};

/// How much longer than control's own wait a long poll may take.
const POLL_MARGIN: Duration = Duration::from_secs(15);

fn webhook(method: Method, id: &str, rest: &[&str]) -> Call {
    Call::new(method, &[&["v1", "webhooks", id], rest].concat())
}

impl Client {
    /// `GET /v1/events` with these filters, and the cursor of the next page.
    pub async fn events(&self, query: &[(&str, String)]) -> Result<Page<EventView>, CallError> {
        let call = Call::new(Method::GET, &["v1", "events"])
            .timeout(Duration::from_secs(30) + POLL_MARGIN);
        let call = query.iter().fold(call, |call, (name, value)| call.query(name, value));
        self.call(&call).await
    }

    /// `GET /v1/operations`, the newest of them.
    pub async fn operations(&self, limit: u32) -> Result<Vec<OperationView>, CallError> {
        let call = Call::new(Method::GET, &["v1", "operations"]).query("limit", limit);
        Ok(self.call::<Page<OperationView>>(&call).await?.items)
    }

    /// `GET /v1/operations/{id}`; waits, at most `wait`, until it has come further than `after`.
    pub async fn operation(
        &self,
        id: &str,
        wait: Option<(u64, Duration)>,
    ) -> Result<OperationView, CallError> {
        let mut call = Call::new(Method::GET, &["v1", "operations", id]);
        if let Some((after, wait)) = wait {
            call = call.query("after", after).query("wait_ms", wait.as_millis());
            call = call.timeout(wait + POLL_MARGIN);
        }
        self.call(&call).await
    }

    /// `POST /v1/webhooks`.
    pub async fn create_webhook(&self, new: &NewWebhook) -> Result<WebhookCreated, CallError> {
        self.call(&Call::new(Method::POST, &["v1", "webhooks"]).json(new)).await
    }

    /// `GET /v1/webhooks`, every page.
    pub async fn webhooks(&self) -> Result<Vec<WebhookView>, CallError> {
        self.list(&Call::new(Method::GET, &["v1", "webhooks"])).await
    }

    /// `DELETE /v1/webhooks/{id}`.
    pub async fn delete_webhook(&self, id: &str) -> Result<(), CallError> {
        self.command(&webhook(Method::DELETE, id, &[])).await
    }

    /// `POST /v1/webhooks/{id}/enable`.
    pub async fn enable_webhook(&self, id: &str) -> Result<WebhookView, CallError> {
        self.call(&webhook(Method::POST, id, &["enable"])).await
    }

    /// `POST /v1/webhooks/{id}/test`.
    pub async fn test_webhook(&self, id: &str) -> Result<DeliveryView, CallError> {
        self.call(&webhook(Method::POST, id, &["test"])).await
    }

    /// `GET /v1/webhooks/{id}/deliveries`, newest first.
    pub async fn deliveries(&self, id: &str) -> Result<Vec<DeliveryView>, CallError> {
        self.list(&webhook(Method::GET, id, &["deliveries"])).await
    }
}

//! Topics and their configuration.

use std::collections::BTreeMap;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};

use super::{Admin, refused};
use crate::cluster::{CallOptions, Stale, To};
use crate::consumer::{text, topic_name};
use crate::error::{Code, Error, Result};

/// How long brokers may take to do what changes topics, in milliseconds.
const CHANGE_TIMEOUT: i32 = 30_000;
const TOPIC: i8 = 2; // of a config's resource
const SET: i8 = 0; // of what is done with it

/// What a topic is made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replicas: i16,
    config: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic as the cluster's defaults have it.
    pub fn new(name: impl Into<String>) -> Self {
        NewTopic { name: name.into(), partitions: -1, replicas: -1, config: BTreeMap::new() }
    }

    /// How many partitions it has; default: the cluster's.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many replicas each of them has; default: the cluster's.
    pub fn replicas(mut self, replicas: i16) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets a key of its configuration, where that is not to be the cluster's default.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition as it is. Brokers are told by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Who leads it; `None`: nobody at the moment.
    pub leader: Option<i32>,
    /// Who has it.
    pub replicas: Vec<i32>,
    /// Who of them is in sync.
    pub in_sync: Vec<i32>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where it is reached, host:port.
    pub address: String,
}

impl Admin {
    /// Makes a topic. One that is there already is left as it is, whatever it is.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`], of `TOPIC_ALREADY_EXISTS` where it does.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<()> {
        let make = |_: i16| {
            let mut new = CreatableTopic::default();
            new.name = topic_name(&topic.name);
            (new.num_partitions, new.replication_factor) = (topic.partitions, topic.replicas);
            for (key, value) in &topic.config {
                let mut config = CreatableTopicConfig::default();
                (config.name, config.value) = (text(key), Some(text(value)));
                new.configs.push(config);
            }
            let mut request = CreateTopicsRequest::default();
            (request.topics, request.timeout_ms) = (vec![new], CHANGE_TIMEOUT);
            request
        };
        let cluster = self.client.cluster();
        let passing = |answer: &kafka_protocol::messages::CreateTopicsResponse| {
            passing(answer.topics.iter().map(|t| t.error_code))
        };
        let answer = cluster.call_checked(To::Controller, make, CallOptions::default(), passing).await?;
        cluster.invalidate(Stale::Topic(&topic.name));
        for made in answer.topics {
            if let Some(code) = made.error_code.err() {
                return Err(refused(format!("create topic {}", topic.name), code, made.error_message));
            }
        }
        Ok(())
    }

    /// Makes a topic unless it is there.
    ///
    /// # Errors
    ///
    /// As [`Admin::create_topic`], but for one that is there.
    pub async fn ensure_topic(&self, topic: NewTopic) -> Result<()> {
        match self.create_topic(topic).await {
            Err(err) if err.code() == Some(Code::TopicAlreadyExists) => Ok(()),
            other => other,
        }
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`], of `UNKNOWN_TOPIC_OR_PARTITION` where there is none.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let make = |version: i16| {
            let mut request = DeleteTopicsRequest::default();
            request.timeout_ms = CHANGE_TIMEOUT;
            if version >= 6 {
                let mut topic = DeleteTopicState::default();
                topic.name = Some(topic_name(name));
                request.topics.push(topic);
            } else {
                request.topic_names.push(topic_name(name));
            }
            request
        };
        let cluster = self.client.cluster();
        let answer = cluster
            .call_checked(To::Controller, make, CallOptions::default(), |a| {
                passing(a.responses.iter().map(|t| t.error_code))
            })
            .await?;
        cluster.invalidate(Stale::Topic(name));
        for deleted in answer.responses {
            if let Some(code) = deleted.error_code.err() {
                return Err(refused(format!("delete topic {name}"), code, deleted.error_message));
            }
        }
        Ok(())
    }

    /// Gives a topic n partitions more. Keys go to other partitions from then on.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`].
    pub async fn add_partitions(&self, topic: &str, n: i32) -> Result<()> {
        let cluster = self.client.cluster();
        cluster.invalidate(Stale::Topic(topic));
        let metadata = cluster.metadata(&[topic]).await?;
        let what = format!("add partitions to {topic}");
        let known = metadata.topic(topic).ok_or_else(|| Error::broker(&what, Code::UnknownTopicOrPartition))?;
        if let Some(code) = known.error {
            return Err(Error::broker(what, code));
        }
        let count = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX).saturating_add(n);
        let make = |_: i16| {
            let mut more = CreatePartitionsTopic::default();
            (more.name, more.count) = (topic_name(topic), count);
            let mut request = CreatePartitionsRequest::default();
            (request.topics, request.timeout_ms) = (vec![more], CHANGE_TIMEOUT);
            request
        };
        let answer = cluster
            .call_checked(To::Controller, make, CallOptions::default(), |a| {
                passing(a.results.iter().map(|t| t.error_code))
            })
            .await?;
        cluster.invalidate(Stale::Topic(topic));
        for result in answer.results {
            if let Some(code) = result.error_code.err() {
                return Err(refused(what, code, result.error_message));
            }
        }
        Ok(())
    }

    /// Sets keys of a topic's configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`].
    pub async fn set_topic_config<K: AsRef<str>, V: AsRef<str>>(
        &self,
        topic: &str,
        config: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let changes: Vec<_> = config
            .into_iter()
            .map(|(key, value)| {
                let mut change = AlterableConfig::default();
                (change.name, change.value, change.config_operation) =
                    (text(key.as_ref()), Some(text(value.as_ref())), SET);
                change
            })
            .collect();
        let make = |_: i16| {
            let mut resource = AlterConfigsResource::default();
            (resource.resource_type, resource.resource_name) = (TOPIC, text(topic));
            resource.configs.clone_from(&changes);
            let mut request = IncrementalAlterConfigsRequest::default();
            request.resources.push(resource);
            request
        };
        let answer = self
            .client
            .cluster()
            .call_checked(To::Controller, make, CallOptions::default(), |a| {
                passing(a.responses.iter().map(|t| t.error_code))
            })
            .await?;
        for resource in answer.responses {
            if let Some(code) = resource.error_code.err() {
                return Err(refused(format!("configure topic {topic}"), code, resource.error_message));
            }
        }
        Ok(())
    }

    /// The configuration of a topic, with what is the cluster's default. Values that are secret are not told.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`].
    pub async fn topic_config(&self, topic: &str) -> Result<BTreeMap<String, String>> {
        let make = |_: i16| {
            let mut resource = DescribeConfigsResource::default();
            (resource.resource_type, resource.resource_name) = (TOPIC, text(topic));
            resource.configuration_keys = None; // all
            let mut request = DescribeConfigsRequest::default();
            request.resources.push(resource);
            request
        };
        let answer = self
            .client
            .cluster()
            .call_checked(To::Any, make, CallOptions::default(), |a| passing(a.results.iter().map(|t| t.error_code)))
            .await?;
        let mut config = BTreeMap::new();
        for result in answer.results {
            if let Some(code) = result.error_code.err() {
                return Err(refused(format!("describe the configuration of {topic}"), code, result.error_message));
            }
            let told =
                result.configs.into_iter().filter_map(|c| c.value.map(|value| (c.name.to_string(), value.to_string())));
            config.extend(told);
        }
        Ok(config)
    }

    /// Lists the topics that the user may describe, without the brokers' own, by name.
    ///
    /// # Errors
    ///
    /// Why no broker answered.
    pub async fn topics(&self) -> Result<Vec<Topic>> {
        let metadata = self.client.cluster().all_topics().await?;
        let mut topics: Vec<_> = metadata
            .topics
            .values()
            .filter(|t| !t.internal && t.error.is_none())
            .map(|t| Topic {
                name: t.name.clone(),
                partitions: t
                    .partitions
                    .iter()
                    .map(|p| PartitionInfo { leader: p.leader, replicas: p.replicas.clone(), in_sync: p.isr.clone() })
                    .collect(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Lists the brokers that are up, by id.
    ///
    /// # Errors
    ///
    /// Why none of them answered.
    pub async fn brokers(&self) -> Result<Vec<Broker>> {
        let cluster = self.client.cluster();
        cluster.invalidate(Stale::All);
        let metadata = cluster.metadata(&[]).await?;
        Ok(metadata.brokers.iter().map(|(&id, address)| Broker { id, address: address.clone() }).collect())
    }
}

/// The first error of several that passes, for which all is tried again.
pub(super) fn passing(codes: impl Iterator<Item = i16>) -> Option<Code> {
    codes.filter_map(ParseResponseErrorCode::err).find(|code| {
        matches!(code, Code::NotController | Code::CoordinatorLoadInProgress | Code::ThrottlingQuotaExceeded)
    })
}

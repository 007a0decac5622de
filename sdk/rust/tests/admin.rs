//! Administration of a real server.

mod harness;

use harness::{Failed, Options, Server, run};
use rustmq::{Acl, Client, Code, NewTopic, Position, Raw, Record};

async fn start() -> Result<(Server, Client), Failed> {
    start_with(Options::default()).await
}

async fn start_with(options: Options) -> Result<(Server, Client), Failed> {
    let server = Server::start(options)?;
    let client = Client::builder().brokers([server.addr()]).build().await?;
    Ok((server, client))
}

#[test]
fn topics_are_made_changed_and_deleted() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        let admin = client.admin();
        let topic = || NewTopic::new("t").partitions(2).config("retention.ms", "60000");
        admin.create_topic(topic()).await?;
        let refused = admin.create_topic(topic()).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::TopicAlreadyExists));
        admin.ensure_topic(topic()).await?;
        admin.add_partitions("t", 1).await?;
        admin.set_topic_config("t", [("max.message.bytes", "2000")]).await?;
        let config = admin.topic_config("t").await?;
        assert_eq!((config["retention.ms"].as_str(), config["max.message.bytes"].as_str()), ("60000", "2000"));
        let topics = admin.topics().await?;
        let names: Vec<_> = topics.iter().map(|t| (t.name.as_str(), t.partitions.len())).collect();
        assert_eq!(names, [("t", 3)]);
        let brokers = admin.brokers().await?;
        assert_eq!(topics[0].partitions[0].leader, Some(brokers[0].id));
        let producer = client.producer().build()?;
        producer.send(Record::to("t").partition(1).value("v")).await?;
        assert_eq!((admin.start_offsets("t").await?, admin.end_offsets("t").await?), (vec![0, 0, 0], vec![0, 1, 0]));
        admin.delete_topic("t").await?;
        let gone = admin.delete_topic("t").await.unwrap_err();
        assert_eq!(gone.code(), Some(Code::UnknownTopicOrPartition));
        assert!(admin.set_topic_config("none", [("retention.ms", "1")]).await.is_err());
        Ok(())
    })
}

#[test]
fn groups_tell_how_far_behind_they_are() -> Result<(), Failed> {
    run(async {
        let (_server, client) = start().await?;
        let admin = client.admin();
        admin.create_topic(NewTopic::new("t").partitions(1)).await?;
        let producer = client.producer().build()?;
        for i in 0..5i64 {
            producer.send(Record::to("t").value("v").timestamp(1_000 + i)).await?;
        }
        for (name, classic) in [("modern", false), ("classic", true)] {
            let builder = client.consumer().topics(["t"]).group(name);
            let consumer = if classic { builder.classic() } else { builder }.build(Raw).await?;
            harness::within("a poll", consumer.poll()).await??;
            let group = admin.groups(&[name]).await?.remove(0);
            assert_eq!((group.name.as_str(), group.state.as_str(), group.members, group.lag), (name, "Stable", 1, 5));
            assert!(admin.delete_group(name).await.is_err(), "it has members");
            consumer.close().await;
            for (to, lag) in
                [(Position::End, 0), (Position::Time(1_003), 2), (Position::Time(9_000), 0), (Position::Start, 5)]
            {
                admin.reset_group(name, to, &["t"]).await?;
                let group = admin.groups(&[name]).await?.remove(0);
                assert_eq!((group.state.as_str(), group.members, group.lag), ("Empty", 0, lag), "{name}: {to:?}");
            }
        }
        let all: Vec<_> = admin.groups(&[]).await?.into_iter().map(|g| g.name).collect();
        assert_eq!(all, ["classic", "modern"]);
        admin.delete_group("modern").await?;
        let gone = admin.groups(&["modern"]).await.unwrap_err();
        assert_eq!(gone.code(), Some(Code::GroupIdNotFound));
        Ok(())
    })
}

#[test]
fn acls_are_made_listed_and_deleted() -> Result<(), Failed> {
    run(async {
        let on = Options::default()
            .set("security.authorization.mode=on")
            .set("security.authorization.super_users=User:ANONYMOUS");
        let (_server, client) = start_with(on).await?;
        let admin = client.admin();
        let rule = |name: &str, operation: &str| Acl {
            principal: "User:alice".into(),
            resource: "topic".into(),
            name: name.into(),
            operation: operation.into(),
            ..Acl::default()
        };
        admin
            .create_acls(&[
                rule("orders", "read"),
                Acl { pattern: "prefixed".into(), permission: "deny".into(), ..rule("secret", "write") },
            ])
            .await?;
        let all = admin.acls(&Acl { principal: "User:alice".into(), ..Acl::default() }).await?;
        assert_eq!(all.len(), 2);
        let denied = all.iter().find(|a| a.permission == "deny").ok_or("no rule denies")?;
        assert_eq!(
            (denied.host.as_str(), denied.pattern.as_str(), denied.name.as_str(), denied.operation.as_str()),
            ("*", "prefixed", "secret", "write")
        );
        assert!(admin.delete_acls(&Acl::default()).await.is_err());
        assert_eq!(admin.delete_acls(&Acl { name: "orders".into(), ..Acl::default() }).await?, 1);
        assert_eq!(admin.acls(&Acl { principal: "User:alice".into(), ..Acl::default() }).await?.len(), 1);
        Ok(())
    })
}

#[cfg(feature = "admin-api")]
#[test]
fn the_admin_api_tells_of_the_cluster_and_deploys_transforms() -> Result<(), Failed> {
    use rustmq::{AdminApi, Deployment, Error};
    run(async {
        let (server, client) = start().await?;
        client.admin().create_topic(NewTopic::new("t").partitions(2)).await?;
        let api = AdminApi::new(server.admin_url())?;
        let cluster = api.cluster().await?;
        assert!(
            !cluster.id.is_empty() && cluster.nodes.len() == 1 && cluster.nodes[0].state == "serving",
            "{cluster:?}"
        );
        assert!(api.cluster_health().await?.is_empty());
        match api.module("none").await {
            Err(Error::Api { status: 404, detail }) if !detail.is_empty() => {}
            other => return Err(format!("{other:?}").into()),
        }
        match api
            .deploy_module(
                "bad",
                Deployment::wasm("no module", serde_json::json!({ "mode": "inline", "topics": ["t"] })),
            )
            .await
        {
            Err(Error::Api { status: 400..=499, .. }) => {}
            other => return Err(format!("{other:?}").into()),
        }
        assert!(api.modules().await?.is_empty());
        assert!(AdminApi::new("127.0.0.1:9642").is_err());
        Ok(())
    })
}

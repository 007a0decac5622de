//! A producer against a broker of this process that answers as a test wants it.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiVersionsResponse, InitProducerIdResponse, MetadataResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::client::Client;
use crate::record::Record;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
/// The one version that the broker has of each.
const VERSIONS: [(i16, i16); 4] = [(PRODUCE, 9), (METADATA, 12), (API_VERSIONS, 3), (INIT_PRODUCER_ID, 4)];

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn put<T: Encodable + HeaderVersion>(frame: &mut BytesMut, correlation: i32, answer: &T, version: i16) {
    let head = ResponseHeader::default().with_correlation_id(correlation);
    head.encode(frame, T::header_version(version)).unwrap();
    answer.encode(frame, version).unwrap();
}

/// Broker 1, which leads t/1; nobody leads t/0.
async fn serve(mut socket: TcpStream, port: u16) -> std::io::Result<()> {
    loop {
        let mut asked = vec![0; socket.read_i32().await? as usize];
        socket.read_exact(&mut asked).await?;
        let key = i16::from_be_bytes([asked[0], asked[1]]);
        let version = i16::from_be_bytes([asked[2], asked[3]]);
        let correlation = i32::from_be_bytes([asked[4], asked[5], asked[6], asked[7]]);
        let mut frame = BytesMut::new();
        match key {
            API_VERSIONS => {
                let of = |(key, v)| ApiVersion::default().with_api_key(key).with_min_version(v).with_max_version(v);
                let answer = ApiVersionsResponse::default().with_api_keys(VERSIONS.map(of).into());
                put(&mut frame, correlation, &answer, version);
            }
            METADATA => {
                let host = StrBytes::from_static_str("127.0.0.1");
                let broker = MetadataResponseBroker::default().with_node_id(1.into()).with_host(host);
                let partition = |i, leader: i32| {
                    MetadataResponsePartition::default().with_partition_index(i).with_leader_id(leader.into())
                };
                let topic = MetadataResponseTopic::default()
                    .with_name(Some(name()))
                    .with_partitions(vec![partition(0, -1), partition(1, 1)]);
                let answer = MetadataResponse::default()
                    .with_brokers(vec![broker.with_port(port.into())])
                    .with_topics(vec![topic]);
                put(&mut frame, correlation, &answer, version);
            }
            INIT_PRODUCER_ID => {
                put(&mut frame, correlation, &InitProducerIdResponse::default().with_producer_id(7.into()), version);
            }
            _ => {
                let partition = PartitionProduceResponse::default().with_index(1).with_base_offset(40);
                let topic = TopicProduceResponse::default().with_name(name()).with_partition_responses(vec![partition]);
                put(&mut frame, correlation, &ProduceResponse::default().with_responses(vec![topic]), version);
            }
        }
        let mut out = BytesMut::new();
        out.put_i32(frame.len() as i32);
        out.extend_from_slice(&frame);
        socket.write_all(&out).await?;
    }
}

async fn client() -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, port));
        }
    });
    Client::builder().brokers([format!("127.0.0.1:{port}")]).build().await.unwrap()
}

#[tokio::test]
async fn a_partition_that_nobody_leads_does_not_hold_up_the_others_of_its_topic() {
    let client = client().await;
    let producer = client.producer().delivery_timeout(Duration::from_secs(600)).build().unwrap();
    let stuck = producer.enqueue(Record::to("t").partition(0).value("waits")).await.unwrap();
    let all = async {
        for _ in 0..20 {
            let sent = producer.send(Record::to("t").partition(1).value("goes")).await.unwrap();
            assert_eq!((sent.partition, sent.offset), (1, 40));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("records of the other partition go");
    drop(stuck);
    client.close().await;
}

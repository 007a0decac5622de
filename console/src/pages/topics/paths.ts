// Where topics and groups are, in the console and in the API. Names are any text: each is one
// segment.
import { at } from "../../api";

export const topicPath = (name: string) => at`/topics/${name}`;
export const topicURL = (name: string) => at`/api/v1/topics/${name}`;
export const groupPath = (id: string) => at`/groups/${id}`;
export const groupURL = (id: string) => at`/api/v1/groups/${id}`;
// A path with such a segment is another one to every browser (URL standard, "dot segments"): what is
// called so has no page.
export const hasPage = (name: string) => name !== "" && name !== "." && name !== "..";
export const brokerPath = (id: number) => at`/brokers/${id}`;

// Calls of a topic that useMay is asked for.
export function topicCalls(name: string) {
  const url = topicURL(name);
  return {
    configs: `GET ${url}/configs`,
    messages: `GET ${url}/records`,
    alter: `PATCH ${url}`,
    remove: `DELETE ${url}`,
    grow: `POST ${url}/partitions`,
    send: `POST ${url}/records`,
    trim: `POST ${url}/delete-records`,
  };
}

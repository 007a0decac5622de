// Topics.
import { Page } from "../../ui";

export default function TopicsPage() {
  return <Page title="Topics" />;
}

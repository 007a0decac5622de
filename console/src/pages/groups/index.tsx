// Groups.
import { Page } from "../../ui";

export default function GroupsPage() {
  return <Page title="Groups" />;
}

// Controllers.
import { Page } from "../../ui";

export default function ControllersPage() {
  return <Page title="Controllers" />;
}

// The configuration of running nodes: what is set while they run, what the process that answers obeys
// and from where, and who changed what.
import { Page, Tabs } from "../../ui";
import { History } from "./history";
import { SetValues } from "./set";
import { Settings } from "./settings";

export default function Configuration() {
  return (
    <Page title="Configuration" sub="What is set while nodes run, what they obey, and who changed it.">
      <Tabs
        label="Configuration"
        tabs={[
          { id: "set", title: "Set on running nodes", show: () => <SetValues /> },
          { id: "settings", title: "What this node obeys", show: () => <Settings /> },
          { id: "history", title: "History", show: () => <History /> },
        ]}
      />
    </Page>
  );
}

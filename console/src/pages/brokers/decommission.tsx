// What a decommission of a broker would do, and its beginning once the id was typed.
import { at, del, post } from "../../api";
import { useGet } from "../../hooks";
import { navigate } from "../../router";
import type { Decommission, Evacuation } from "../../types";
import { Confirm, Dialog, Loading, ProblemView, notify } from "../../ui";
import { Moves } from "./moves";

export function DecommissionDialog({ id, onBegun, onClose }: { id: number; onBegun: (operation: string, refused: string[]) => void; onClose: () => void }) {
  const { data: plan, error, reload } = useGet<Evacuation>(at`/api/v1/brokers/${id}/decommission`);
  if (!plan) {
    return (
      <Dialog title={`Decommission broker ${id}`} onClose={onClose}>
        <ProblemView error={error} retry={reload} />
        {!error && <Loading what="Planning" />}
      </Dialog>
    );
  }
  const stuck = plan.stuck ?? [];
  const unknown = plan.unknown ?? [];
  const begin = async () => {
    const begun = await post<Decommission>(at`/api/v1/brokers/${id}/decommission`);
    notify(`Broker ${id} is drained, and its replicas begin to move.`);
    onBegun(begun.operation, begun.refused ?? []);
  };
  return (
    <Confirm title={`Decommission broker ${id}`} action="Decommission" danger wide typed={String(id)} onConfirm={begin} onClose={onClose}>
      <p>
        It is drained: others come to lead what it leads ({plan.leads}). Then its replicas ({plan.replicas}) move to the other brokers, and it can be stopped and removed. Until then, undraining it takes it back.
      </p>
      {plan.moving > 0 && <p>{plan.moving} of its replicas move already.</p>}
      {(plan.moves ?? []).length > 0 && <Moves moves={plan.moves ?? []} brokers={plan.brokers ?? []} sent={plan.sent_bytes} kept={plan.kept_bytes} folded />}
      {plan.replicas === 0 && <p>It has no replica: nothing has to move.</p>}
      {stuck.length > 0 && (
        <div class="problem">
          <p class="problem-title">{stuck.length} partitions cannot move</p>
          <p>
            Every other broker in service has a replica of them already: start another broker, or give these topics fewer replicas. {stuck.slice(0, 10).join(", ")}
            {stuck.length > 10 && ` and ${stuck.length - 10} more`}
          </p>
        </div>
      )}
      {unknown.length > 0 && <p class="muted">How much is sent is not known of all: {unknown.join("; ")}</p>}
    </Confirm>
  );
}

export function RemoveDialog({ id, onClose }: { id: number; onClose: () => void }) {
  const remove = async () => {
    await del(at`/api/v1/brokers/${id}`);
    notify(`Broker ${id} is out of the cluster.`);
    navigate("/brokers");
  };
  return (
    <Confirm title={`Remove broker ${id}`} action="Remove" danger typed={String(id)} onConfirm={remove} onClose={onClose}>
      <p>The cluster forgets it. What is in its data directory and nowhere else is lost to the cluster; a broker with replicas, or in service, is not removed. If it was a controller too, its vote is taken on the page of controllers.</p>
    </Confirm>
  );
}

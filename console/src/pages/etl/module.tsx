// One module: how it is on each broker, its versions and history, a trial, and what can be changed.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { asProblem, at, del, getTagged, post, type Problem } from "../../api";
import { useMay } from "../../hooks";
import { Link, navigate, useQuery, type PageProps } from "../../router";
import type { ETLModule, ETLTrial } from "../../types";
import { Button, Confirm, Field, Loading, Page, ProblemView, Select, Tabs, notify } from "../../ui";
import { History, Versions } from "./versions";
import { OnBrokers } from "./onbrokers";
import { parseSpec, type Spec } from "./spec";
import { ModuleState } from "./states";
import { Try } from "./try";

type Change = "enable" | "disable" | "rollback" | "delete";

export default function ModulePage({ params }: PageProps) {
  const name = params.name ?? "";
  const path = at`/api/v1/etl/modules/${name}`;
  const [is, setIs] = useState<{ module: ETLModule; tag: string } | undefined>();
  const [error, setError] = useState<Problem | undefined>();
  const [asks, setAsks] = useState<{ change: Change; version?: number } | undefined>();
  const calls = { enable: `POST ${path}/enable`, disable: `POST ${path}/disable`, rollback: `POST ${path}/rollback`, delete: `DELETE ${path}`, deploy: `POST ${path}/versions`, test: `POST ${path}/test` };
  const may = useMay(Object.values(calls));
  const turns = useRef({ asked: 0, told: 0 });
  const load = useCallback(() => {
    const turn = ++turns.current.asked;
    return getTagged<ETLModule>(path).then(
      ({ body, tag }) => {
        if (turn < turns.current.told) return; // what was asked later is newer
        turns.current.told = turn;
        setIs({ module: body, tag });
        setError(undefined);
      },
      (thrown) => setError(asProblem(thrown)),
    );
  }, [path]);
  useEffect(() => {
    void load();
    const timer = setInterval(() => document.hidden || void load(), 3000);
    return () => clearInterval(timer);
  }, [load]);
  const m = is?.module;
  const versions = m?.versions ?? [];
  return (
    <Page
      title={name}
      sub={
        m && (
          <>
            <ModuleState module={m} /> {m.mode}, for {(m.topics ?? []).join(", ")}
          </>
        )
      }
      actions={
        m && (
          <>
            {may[calls.deploy] && (
              <Link class="button" href={`/etl/deploy?module=${encodeURIComponent(name)}`}>
                New version…
              </Link>
            )}
            {may[calls.enable] && m.active === 0 && <Button onClick={() => setAsks({ change: "enable" })}>Enable…</Button>}
            {may[calls.disable] && m.state !== "disabled" && <Button onClick={() => setAsks({ change: "disable" })}>Disable…</Button>}
            {may[calls.rollback] && versions.length > 1 && <Button onClick={() => setAsks({ change: "rollback" })}>Roll back…</Button>}
            {may[calls.delete] && (
              <Button kind="danger" onClick={() => setAsks({ change: "delete" })}>
                Delete…
              </Button>
            )}
          </>
        )
      }
    >
      <ProblemView error={error} retry={() => void load()} />
      {!m && !error && <Loading />}
      {m?.reason && (
        <div class="problem" role="alert">
          <p class="problem-title">Its error budget is spent</p>
          <p>{m.reason}. It is not entered any more until somebody enables it, rolls it back, or disables it.</p>
        </div>
      )}
      {m && (
        <Tabs
          label="Views of the module"
          tabs={[
            { id: "brokers", title: "On brokers", show: () => <OnBrokers module={m} /> },
            { id: "versions", title: `Versions (${versions.length})`, show: () => <Versions module={m} mayEnable={may[calls.enable] ?? false} mayDelete={may[calls.delete] ?? false} onChange={(change, version) => setAsks({ change, version })} /> },
            { id: "history", title: "History", show: () => <History name={name} /> },
            ...(may[calls.test] ? [{ id: "try", title: "Try", show: () => <TryVersion module={m} path={path} /> }] : []),
          ]}
        />
      )}
      {asks && is && <ChangeDialog asks={asks} module={is.module} tag={is.tag} path={path} onClose={() => setAsks(undefined)} onDone={load} />}
    </Page>
  );
}

function TryVersion({ module: m, path }: { module: ETLModule; path: string }) {
  const versions = m.versions ?? [];
  const first = m.active || m.stands || versions.at(-1)?.number || 0;
  const [version, setVersion] = useQuery("version", String(first));
  const raw = versions.find((v) => v.number === Number(version))?.spec;
  const parsed = raw === undefined ? undefined : parseSpec(JSON.stringify(raw));
  const spec: Spec | undefined = parsed && "spec" in parsed ? parsed.spec : undefined;
  return (
    <>
      <p class="muted">What is deployed, by the spec of its version. Nothing is changed, and no record goes anywhere.</p>
      <Select label="Version" value={version} onChange={setVersion} options={versions.map((v) => ({ value: String(v.number), label: v.number === m.active ? `${v.number}, active` : String(v.number) }))} />
      <Try key={version} spec={spec} run={(sample, topic) => post<ETLTrial>(`${path}/test`, { version: Number(version), topic: topic || undefined, sample })} />
    </>
  );
}

const titles: Record<Change, string> = { enable: "Enable", disable: "Disable", rollback: "Roll back", delete: "Delete" };

interface ChangeProps {
  asks: { change: Change; version?: number };
  module: ETLModule;
  tag: string;
  path: string;
  onClose: () => void;
  onDone: () => Promise<void>;
}

// ChangeDialog is about the module as it was when one asked: what has become of it since refuses the change.
function ChangeDialog({ asks, path, onClose, onDone, ...now }: ChangeProps) {
  const [{ module: m, tag }] = useState(now);
  const versions = m.versions ?? [];
  const others = versions.filter((v) => v.number !== m.active);
  const first = { enable: asks.version ?? m.stands ?? others.at(-1)?.number, rollback: m.previous || others.at(-1)?.number, delete: asks.version, disable: undefined }[asks.change];
  const [version, setVersion] = useState(first ? String(first) : "");
  const [reason, setReason] = useState("");
  const ofOne = asks.change === "delete" && asks.version !== undefined;
  const said = ofOne ? `version ${asks.version} of ${m.name}` : m.name;
  const confirm = async () => {
    const options = { ifMatch: tag };
    switch (asks.change) {
      case "enable":
        await post(`${path}/enable`, { version: Number(version) || undefined }, options);
        break;
      case "disable":
        await post(`${path}/disable`, { reason: reason || undefined }, options);
        break;
      case "rollback":
        await post(`${path}/rollback`, { to: Number(version) || undefined, reason: reason || undefined }, options);
        break;
      case "delete":
        await del(path, { version: asks.version, force: m.active !== 0 && (!ofOne || asks.version === m.active) }, undefined, options);
    }
    notify({ enable: `Version ${version} of ${m.name} is active.`, disable: `${m.name} is disabled.`, rollback: `${m.name} is back at version ${version}.`, delete: `${said} is deleted.` }[asks.change]);
    if (asks.change === "delete" && !ofOne) navigate("/etl?tab=modules");
    else await onDone(); // or the next change would be about what this one has changed
  };
  return (
    <Confirm title={`${titles[asks.change]} ${said}`} action={titles[asks.change]} danger={asks.change === "delete"} typed={asks.change === "delete" ? m.name : undefined} onConfirm={confirm} onClose={onClose}>
      {(asks.change === "enable" || asks.change === "rollback") && (
        <Select label="Version" value={version} onChange={setVersion} options={versions.map((v) => ({ value: String(v.number), label: v.number === m.active ? `${v.number}, active now` : String(v.number) }))} />
      )}
      {asks.change === "enable" && <p>Records of its topics pass it from now on. Until a broker has loaded it, producers there are told to try again.</p>}
      {asks.change === "rollback" && <p>That version is active in place of the one that is. What records have been through stays as it is.</p>}
      {asks.change === "disable" && <p>{m.mode === "async" ? "It keeps its place, and goes on there once it is enabled." : "Records of its topics pass without it from now on."}</p>}
      {asks.change === "delete" &&
        (m.active !== 0 && (!ofOne || asks.version === m.active) ? <p>It is active: records of its topics pass without it from now on. A version that is deleted cannot be rolled back to.</p> : <p>A version that is deleted cannot be rolled back to.</p>)}
      {(asks.change === "disable" || asks.change === "rollback") && <Field label="Reason, for the history" value={reason} onInput={setReason} maxLength={1024} />}
    </Confirm>
  );
}

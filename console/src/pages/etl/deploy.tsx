// A deployment: which module, its spec, a trial that changes nothing, and then the version.
import { useEffect, useState } from "preact/hooks";
import { Problem, at, asProblem, getTagged, post, upload } from "../../api";
import { bytes } from "../../format";
import { useAction, useGet, useMay } from "../../hooks";
import { Link, navigate, useQuery } from "../../router";
import type { BatteriesOutputBody, ETLDeploy, ETLDeployed, ETLModule, ETLRecord, ETLTrial, UploadOutputBody } from "../../types";
import { Badge, Button, Check, Field, KeyValue, Page, ProblemView, Section, Select, notify } from "../../ui";
import { emptySpec, inexact, parseSpec, specText, type Spec } from "./spec";
import { SpecEditor } from "./specform";
import { Try } from "./try";

type Wasm = { battery: string } | { sha256: string; name: string; bytes: number };

export default function DeployPage() {
  const [name, setName] = useQuery("module");
  const [text, setText] = useState(specText(emptySpec));
  const [wasm, setWasm] = useState<Wasm | undefined>();
  const [disabled, setDisabled] = useState(false);
  const [was, setWas] = useState<{ name: string; module: ETLModule; tag: string } | undefined>();
  const [missing, setMissing] = useState<Problem | undefined>();
  const [plan, setPlan] = useState<ETLDeployed | undefined>();
  const path = at`/api/v1/etl/modules/${name.trim()}/versions`;
  const call = `POST ${at`/api/v1/etl/modules/${name.trim() || "x"}/versions`}`;
  const may = useMay([call])[call];
  const parsed = parseSpec(text);
  const spec: Spec | undefined = "spec" in parsed ? parsed.spec : undefined;
  const begunAs = useState(name)[0]; // a new version of it, where one came by a link

  // The spec of the version that is there is where a new one begins.
  useEffect(() => {
    if (begunAs === "") return;
    getTagged<ETLModule>(at`/api/v1/etl/modules/${begunAs}`).then(
      ({ body, tag }) => {
        setWas({ name: begunAs, module: body, tag });
        const versions = body.versions ?? [];
        const last = versions.find((v) => v.number === (body.active || body.stands)) ?? versions.at(-1);
        if (last?.spec !== undefined) setText(specText(last.spec));
        if (last) setWasm({ sha256: last.sha256, name: `version ${last.number}`, bytes: last.bytes });
      },
      (thrown) => asProblem(thrown).status !== 404 && setMissing(asProblem(thrown)),
    );
  }, [begunAs]);

  const body = (more: Partial<ETLDeploy>): ETLDeploy => {
    if (name.trim() === "") throw new Problem(0, "Which name?", "Write the name that the module is to have.");
    if (!wasm) throw new Problem(0, "Which module?", "Choose one that comes with rustmq, or upload a .wasm file.");
    if ("error" in parsed) throw new Problem(0, "The spec is no JSON", parsed.error);
    if (inexact(parsed.spec)) throw new Problem(0, "A number of the spec is too large for a browser", "It would be rounded. Write it as a text where the module takes one, or deploy by: rustmq admin etl deploy.");
    return { ...("battery" in wasm ? { battery: wasm.battery } : { sha256: wasm.sha256 }), spec: parsed.spec, ...more };
  };
  const dry = async (sample: ETLRecord[], topic: string): Promise<ETLTrial> => {
    const would = await post<ETLDeployed>(path, body({ dry_run: true, disabled, sample, topic: topic || undefined }));
    setPlan(would);
    return would.trial;
  };
  const look = useAction(async () => void (await dry([], "")));
  const deploy = useAction(async () => {
    const done = await post<ETLDeployed>(path, body({ disabled }), { ifMatch: was?.name === name.trim() ? was.tag : undefined });
    notify(`Version ${done.version} of ${done.name} is ${done.active ? "active" : "deployed, and not active"}.`);
    navigate(at`/etl/modules/${done.name}`);
  });
  return (
    <Page
      title={begunAs ? `Deploy ${begunAs}` : "Deploy a module"}
      sub={
        <>
          Nothing is changed before you press Deploy. <Link href="/etl">All of ETL</Link>
        </>
      }
    >
      <ProblemView error={missing} />
      <Section title="1. The module">
        <Choose wasm={wasm} onWasm={setWasm} />
        <Field label="Name" required value={name} onInput={setName} maxLength={64} hint="A module of that name that is there gets another version." />
      </Section>
      <Section title="2. Its spec">
        <SpecEditor text={text} onText={setText} example={useExample(wasm)} />
      </Section>
      <Section title="3. Try it on records">
        <p class="muted">The server loads it, and shows what it would do with records. Nothing is kept of that.</p>
        <Try spec={spec} run={dry} />
      </Section>
      <Section title="4. Deploy">
        <Check label="Leave it disabled" hint="The version is there, and what is active stays so." checked={disabled} onChange={setDisabled} />
        <div class="actions">
          {may ? (
            <>
              <Button busy={look.busy} onClick={look.go}>
                Dry run
              </Button>
              <Button kind="primary" busy={deploy.busy} onClick={deploy.go}>
                Deploy
              </Button>
            </>
          ) : (
            <span class="muted">A trial before, and a deployment, ask for the right to alter the cluster.</span>
          )}
        </div>
        <ProblemView error={look.error} />
        <ProblemView error={deploy.error} />
        {plan && <Plan plan={plan} />}
      </Section>
    </Page>
  );
}

function useExample(wasm: Wasm | undefined): unknown {
  const { data } = useGet<BatteriesOutputBody>("/api/v1/etl/batteries");
  return wasm && "battery" in wasm ? (data?.batteries ?? []).find((b) => b.name === wasm.battery)?.example_config : undefined;
}

function Choose({ wasm, onWasm }: { wasm: Wasm | undefined; onWasm: (wasm: Wasm | undefined) => void }) {
  const { data, error } = useGet<BatteriesOutputBody>("/api/v1/etl/batteries");
  const [file, setFile] = useState<File | undefined>();
  const batteries = data?.batteries ?? [];
  const chosen = wasm && "battery" in wasm ? wasm.battery : "";
  const send = useAction(async () => {
    if (!file) return;
    const put = await upload<UploadOutputBody>("/api/v1/etl/uploads", file);
    onWasm({ sha256: put.sha256, name: file.name, bytes: put.bytes });
    notify(`${file.name} is uploaded.`);
  });
  return (
    <>
      <ProblemView error={error} />
      <div class="fields">
        <Select
          label="One that comes with rustmq"
          value={chosen}
          onChange={(battery) => onWasm(battery === "" ? undefined : { battery })}
          options={[{ value: "", label: "none" }, ...batteries.map((b) => ({ value: b.name, label: `${b.name}: ${b.doc}` }))]}
        />
        <div class="field">
          <label for="wasm-file">Or a .wasm file</label>
          <input id="wasm-file" class="file" type="file" accept=".wasm,application/wasm" onChange={(e) => setFile(e.currentTarget.files?.[0])} />
          {file && (
            <Button small busy={send.busy} onClick={send.go}>
              Upload {file.name} ({bytes(file.size)})
            </Button>
          )}
          <ProblemView error={send.error} />
        </div>
      </div>
      <p role="status">
        {wasm === undefined ? <span class="muted">No module is chosen yet.</span> : "battery" in wasm ? <>Chosen: {wasm.battery}</> : <>Chosen: {wasm.name}, {bytes(wasm.bytes)}, SHA-256 <code>{wasm.sha256.slice(0, 16)}…</code></>}
      </p>
    </>
  );
}

function Plan({ plan }: { plan: ETLDeployed }) {
  const notes = plan.notes ?? [];
  return (
    <div role="status">
      <KeyValue
        items={[
          ["It would be", `version ${plan.version} of ${plan.name}, ${plan.active ? "active" : "disabled"}`],
          ["SHA-256", <code>{plan.sha256}</code>],
        ]}
      />
      {notes.length > 0 ? (
        <ul class="notes">
          {notes.map((n) => (
            <li key={n}>{n}</li>
          ))}
        </ul>
      ) : (
        <p>
          <Badge kind="ok">Nothing speaks against it.</Badge>
        </p>
      )}
    </div>
  );
}

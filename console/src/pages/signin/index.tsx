import { useQuery } from "@tanstack/react-query";
import { Button } from "antd";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { Navigate, useLocation, useSearchParams } from "react-router";

import { ProblemError } from "../../api/problem";
import { authQuery, sessionQuery, useSignIn } from "../../api/session";
import { LanguageMenu, ThemeMenu } from "../../app/HeaderMenus";
import { ErrorState } from "../../components/ErrorState";
import { Loading } from "../../components/Loading";
import { Mark } from "../../components/Mark";
import { textOf } from "../../i18n/useText";
import en from "../../locales/en/signin";
import ko from "../../locales/ko/signin";
import { insideAddress } from "./next";

const useText = textOf(en, ko);

/** By key, by a link of one use (`/signin#link=...`), or by the identity provider where the gateway has one. */
export default function SignInPage() {
  const t = useText();
  const { data: session } = useQuery(sessionQuery);
  const [search] = useSearchParams();
  const next = insideAddress(search.get("next"));
  const link = useLinkOfAddress();

  if (session && link === null) return <Navigate to={next} replace />;
  return (
    <div className="sk-signin">
      <title>{`${t("title")} · SSKAI`}</title>
      <div className="sk-signin-tools">
        <LanguageMenu />
        <ThemeMenu />
      </div>
      <main className="sk-signin-main">
        <section className="sk-signin-story" aria-hidden="true">
          <Curve />
          <p className="sk-signin-lead">{t("lead")}</p>
          <ul>
            <li>{t("point.plan")}</li>
            <li>{t("point.spot")}</li>
            <li>{t("point.receipt")}</li>
          </ul>
        </section>
        <section className="sk-signin-card">
          <div className="sk-signin-brand">
            <Mark size={32} />
            <span>SSKAI</span>
          </div>
          <h1>{t("title")}</h1>
          {link === null ? <Ways next={next} problem={search.get("problem")} /> : <ByLink link={link} next={next} />}
        </section>
      </main>
    </div>
  );
}

/** The secret after `#link=`, taken out of the address at once: it is not kept in the browser's history. */
function useLinkOfAddress(): string | null {
  const { hash, pathname, search } = useLocation();
  const [link] = useState(() => new URLSearchParams(hash.slice(1)).get("link"));
  useEffect(() => {
    if (link !== null) window.history.replaceState(window.history.state, "", pathname + search);
  }, [link, pathname, search]);
  return link;
}

function ByLink({ link, next }: { link: string; next: string }) {
  const t = useText();
  const { mutate, error, isSuccess } = useSignIn();
  const sent = useRef(false);
  useEffect(() => {
    if (sent.current) return; // it works once
    sent.current = true;
    mutate({ link });
  }, [link, mutate]);
  if (isSuccess) return <Navigate to={next} replace />;
  if (error === null) {
    return (
      <div role="status">
        <p>{t("linkSigningIn")}</p>
        <Loading rows={2} />
      </div>
    );
  }
  return (
    <>
      <div className="sk-notice" role="alert">
        <strong>{t("linkFailed")}</strong>
        <p>{error instanceof ProblemError && error.status !== 401 ? error.message : t("linkFailedDetail")}</p>
      </div>
      <Ways next={next} problem={null} />
    </>
  );
}

function Ways({ next, problem }: { next: string; problem: string | null }) {
  const t = useText();
  const auth = useQuery(authQuery);
  if (auth.error) return <ErrorState error={auth.error} onRetry={() => void auth.refetch()} />;
  if (auth.data === undefined) return <Loading />;
  const { oidc, key } = auth.data;
  return (
    <>
      {problem !== null && (
        <div className="sk-notice" role="alert">
          <strong>{t("problem")}</strong>
          <p>{problem}</p>
        </div>
      )}
      {oidc !== null && (
        <Button size="large" block type={key ? "default" : "primary"} href={`${oidc.start}?next=${encodeURIComponent(next)}`}>
          {t("oidc", { name: oidc.name })}
        </Button>
      )}
      {oidc !== null && key && <p className="sk-signin-or">{t("or")}</p>}
      {key && <ByKey />}
    </>
  );
}

function ByKey() {
  const t = useText();
  const { mutate, error, isPending } = useSignIn();
  const [key, setKey] = useState("");
  const [isMissing, setIsMissing] = useState(false);
  const inputId = useId();
  const field = useRef<HTMLInputElement>(null);
  const wrong = isMissing ? t("keyMissing") : error ? messageOf(error, t("keyWrong")) : null;

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setIsMissing(key.trim() === "");
    if (key.trim() === "") field.current?.focus();
    else mutate({ key: key.trim() }, { onError: () => field.current?.focus() });
  };
  return (
    <form className="sk-form" onSubmit={submit} noValidate>
      <label htmlFor={inputId}>{t("key")}</label>
      <input
        id={inputId}
        ref={field}
        className="sk-input"
        type="password"
        name="key"
        autoComplete="current-password"
        spellCheck={false}
        value={key}
        aria-invalid={wrong !== null}
        aria-describedby={`${inputId}-hint ${inputId}-wrong`}
        onChange={(event) => setKey(event.target.value)}
      />
      <p id={`${inputId}-wrong`} className="sk-error-line" role="alert">
        {wrong}
      </p>
      <p id={`${inputId}-hint`} className="sk-hint">
        {t("keyHint")}
      </p>
      <Button type="primary" size="large" block htmlType="submit" loading={isPending}>
        {t("submit")}
      </Button>
    </form>
  );
}

function messageOf(error: Error, wrongKey: string): string {
  return error instanceof ProblemError && error.status === 401 ? wrongKey : error.message;
}

/** A loss that falls, stops where its machine is taken, and goes on from where it was. */
function Curve() {
  return (
    <svg viewBox="0 0 420 200" className="sk-signin-curve">
      <path className="sk-curve-grid" d="M0 40h420M0 90h420M0 140h420M0 190h420" />
      <path className="sk-curve-line" d="M4 24C40 60 56 92 96 104s52 10 76 18" />
      <path className="sk-curve-gap" d="M172 122h64" />
      <path className="sk-curve-line" d="M236 122c36 14 60 30 96 38s60 8 84 10" />
      <circle className="sk-curve-spot" cx="172" cy="122" r="6" />
      <circle className="sk-curve-spot" cx="236" cy="122" r="6" />
    </svg>
  );
}

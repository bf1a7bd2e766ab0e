import { useQuery } from "@tanstack/react-query";

import { QueryState } from "../../../components/QueryState";
import type { Endpoint } from "../documents";
import { playgroundQuery } from "../queries";
import { Chat } from "./Chat";
import { Infer } from "./Infer";
import { Pictures } from "./Pictures";

/** Ask the endpoint, in the way that its model is asked. */
export default function Playground({ endpoint }: { endpoint: Endpoint }) {
  const playground = useQuery(playgroundQuery(endpoint.id));
  return (
    <QueryState query={playground} rows={6}>
      {(document) => {
        if (document.operation === "chat") return <Chat endpointId={endpoint.id} document={document} />;
        return document.operation === "images" ? <Pictures document={document} /> : <Infer document={document} />;
      }}
    </QueryState>
  );
}

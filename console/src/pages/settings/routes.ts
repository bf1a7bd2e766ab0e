import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const settingsRoutes: RouteObject[] = [
  {
    path: "settings",
    lazy: lazyPage(() => import("./index")),
    children: [
      { index: true, lazy: lazyPage(() => import("./Project")) },
      { path: "keys", lazy: lazyPage(() => import("./Keys")) },
      { path: "members", lazy: lazyPage(() => import("./Members")) },
      { path: "webhooks", lazy: lazyPage(() => import("./Webhooks")) },
      { path: "webhooks/:webhookId", lazy: lazyPage(() => import("./Webhook")) },
      { path: "limits", lazy: lazyPage(() => import("./Limits")) },
      { path: "audit", lazy: lazyPage(() => import("./Audit")) },
      { path: "about", lazy: lazyPage(() => import("./About")) },
    ],
  },
];

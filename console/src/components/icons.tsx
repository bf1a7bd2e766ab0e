import type { ReactNode } from "react";

/** Icons of one stroke, drawn for this console. They say nothing to screen readers: words stand beside them. */
const PATHS = {
  dashboard: <path d="M4 13a8 8 0 1 1 16 0M12 13l4-4M6.5 19h11" />,
  data: <path d="M5 6.5C5 5 8 4 12 4s7 1 7 2.5S16 9 12 9 5 8 5 6.5Zm0 0v11C5 19 8 20 12 20s7-1 7-2.5v-11M5 12c0 1.5 3 2.5 7 2.500s7-1 7-2.5" />,
  models: <path d="M12 3.5 19.5 7.500v9L12 20.5 4.5 16.500v-9L12 3.500Zm0 8.5 7.5-4.500M12 12 4.5 7.500M12 12v8.5" />,
  train: <path d="M4 18c4 0 4-11 8-11 3 0 3.5 5 5 7M16 4.500l4 4M20 4.500l-4 4" />,
  jobs: <path d="M4 7h10M4 12h16M4 17h7M18 5.500l2 1.5-2 1.500M15 15.500l2 1.5-2 1.5" />,
  endpoints: <path d="M12 12h.01M8.5 15.500a5 5 0 0 1 0-7M15.5 8.500a5 5 0 0 1 0 7M5.6 18.400a9 9 0 0 1 0-12.800M18.4 5.600a9 9 0 0 1 0 12.8" />,
  monitoring: <path d="M3.5 12h4l2.5-6.5 4 13 2.5-6.500h4" />,
  costs: <path d="M6 3.500h12v17l-3-2-3 2-3-2-3 2v-17ZM9.5 8.500h5M9.5 12.500h5" />,
  settings: <path d="M4 7h8M16 7h4M4 17h4M12 17h8M14 5v4M10 15v4" />,
  menu: <path d="M4 7h16M4 12h16M4 17h16" />,
  close: <path d="m6 6 12 12M18 6 6 18" />,
  sun: <path d="M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 3v1.500M12 19.500V21M3 12h1.500M19.5 12H21M5.6 5.600l1.1 1.100M17.3 17.300l1.1 1.100M5.6 18.400l1.1-1.100M17.3 6.700l1.1-1.1" />,
  moon: <path d="M19.5 14.500A8 8 0 0 1 9.5 4.500a8 8 0 1 0 10 10Z" />,
  system: <path d="M4 5h16v11H4zM9 20h6M12 16v4" />,
  user: <path d="M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM5 20c.500-3.5 3.5-5 7-5s6.5 1.5 7 5" />,
  globe: <path d="M12 3.500a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM3.5 12h17M12 3.500c3 3 3 14 0 17M12 3.500c-3 3-3 14 0 17" />,
  chevron: <path d="m8 10 4 4 4-4" />,
  copy: <path d="M9 9h10v11H9zM5 15V4h10" />,
  check: <path d="m5 12.5 4.5 4.500L19 7.5" />,
  warning: <path d="M12 4 3.5 19h17L12 4ZM12 10v4M12 16.800v.01" />,
  plus: <path d="M12 5v14M5 12h14" />,
  upload: <path d="M12 15V4.500M8 8l4-4 4 4M5 15v4.500h14V15" />,
  download: <path d="M12 4.500V15M8 11.500l4 4 4-4M5 15v4.500h14V15" />,
  trash: <path d="M4.5 7h15M9.5 7V4.500h5V7M6.5 7l1 12.500h9l1-12.500M10 11v5M14 11v5" />,
  file: <path d="M6 3.500h8l4 4v13H6zM14 3.500v4h4" />,
  external: <path d="M10 6H5.500v12.500H18V14M14 5h5v5M19 5l-8 8" />,
  thumbUp: <path d="M8 11l3.500-7c1.600 0 2.500 1 2.500 2.500V10h4.500a1.700 1.700 0 0 1 1.700 2l-1.200 6a2 2 0 0 1-2 1.500H8M8 11v8.500M8 11H4v8.500h4" />,
  thumbDown: <path d="M16 13l-3.500 7c-1.600 0-2.500-1-2.500-2.500V14H5.500a1.700 1.700 0 0 1-1.700-2l1.200-6A2 2 0 0 1 7 4.500h9M16 13V4.500M16 13h4V4.500h-4" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg
      className="sk-icon"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth={1.7}
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {PATHS[name]}
    </svg>
  );
}

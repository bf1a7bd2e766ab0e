/** The sign of SSKAI: a curve that goes on after its dip, and the spot that it runs to. */
export function Mark({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" fill="#0b6b5d" />
      <path d="M7 20.5c3.2 0 3.2-9 6.4-9s3.2 9 6.4 9" fill="none" stroke="#fff" strokeWidth="2.6" strokeLinecap="round" />
      <circle cx="24" cy="12" r="3" fill="#f4b740" />
    </svg>
  );
}
